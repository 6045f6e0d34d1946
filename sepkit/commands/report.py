"""`report`: the milestone report, one HTML file."""

show = print
