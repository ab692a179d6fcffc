"""How a SWOP starts programs, builds images and makes volumes: one interface, three executors."""
