"""An emulated fleet of Redfish BMCs and the nodes behind them; started by `benchmarks.fleet`."""
