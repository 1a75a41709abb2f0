"""Whether a command may pass: zones of the imagined future, and the gate that their verdicts open. numpy, no torch."""
