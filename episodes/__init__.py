"""Episodes: what robots saw and did, stored whole, labelled beside, sampled fast."""
