"""perceptic: Perception Encoder and Perception Language Model."""
