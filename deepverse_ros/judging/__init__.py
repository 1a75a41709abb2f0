"""Commands of others judged ahead: what a command leads to, held against the zones, as a verdict for the prefilter."""
