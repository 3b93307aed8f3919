"""Studies of what is stored: backtest, tuning, sampling, search, replay, comparing models. Nothing here publishes."""
