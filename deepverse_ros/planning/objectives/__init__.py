"""What a plan is for: each objective a file and a class, a cost per plan read from what is imagined for it."""
