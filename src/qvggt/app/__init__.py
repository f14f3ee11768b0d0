"""The interactive viewer of finished and running reconstructions."""
