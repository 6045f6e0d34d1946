"""step.py is what one training step computes, fit.py a run of them, train.py the call."""
