"""The one training loop, optimizers, evaluation, the run folder, the device."""
