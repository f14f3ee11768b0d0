"""Speed and memory of models: contenders run in turns, in new processes, and their outputs are compared."""
