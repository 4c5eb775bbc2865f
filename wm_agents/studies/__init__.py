"""Studies: experiments that regenerate and extend published comparisons, each run by one command."""
