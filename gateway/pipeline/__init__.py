"""One transaction, from its first command to its effect. Fronts hand over what they hear; this room decides and acts.

Refuses to say 250 before the next hop did or the store has committed (design section 1, promise 1).
"""

from gateway.pipeline.pipeline import Pipeline
from gateway.pipeline.transaction import Transaction

__all__ = ["Pipeline", "Transaction"]
