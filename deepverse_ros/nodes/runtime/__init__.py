"""What every node stands on, whatever it does: lifecycle, parameters, threads, quality of service, diagnostics."""
