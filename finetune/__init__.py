"""Fine-tuning: offline pretraining, learning online, evaluation, and the runs that hold all of it."""
