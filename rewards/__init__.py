"""Rewards: what judges prefer, models of it, success, and label sets made of them."""
