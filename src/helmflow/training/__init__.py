"""The files that let an interrupted computation go on."""
