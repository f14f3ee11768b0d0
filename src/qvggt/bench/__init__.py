"""Speed and memory: every contender in fresh processes of its own, in turns, its answer compared with the float one."""
