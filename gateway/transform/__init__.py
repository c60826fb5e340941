"""Changes to a message that a verdict asks for: header fields, signature blocks, banners, legends, encryption.

All but encryption are byte-range edits. Refuses to let a message go when a demanded change cannot be made.
"""

from gateway.transform.failure import TransformFailed
from gateway.transform.planner import Planned, plan
from gateway.transform.transformer import Outgoing, Runner, Transformer

__all__ = ["Outgoing", "Planned", "Runner", "TransformFailed", "Transformer", "plan"]
