"""The papers' claims in miniature: experiments on the synthetic world with a direction, an interval and a verdict."""
