"""`scoreboard`: all scored runs beside each other."""

from sepkit.reporting.scoreboard import print_scoreboard

show = print_scoreboard
