"""Measurements of this gateway beside Postfix and amavisd-new, on one machine, in one run. Not part of the product."""
