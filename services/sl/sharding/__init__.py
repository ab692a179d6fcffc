"""A merge: by the leader alone, or shared among the participants."""
