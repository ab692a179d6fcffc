"""How commands are written: words, syntax, help, and what is wrong with a line. No I/O."""
