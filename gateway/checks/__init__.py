"""The controls: each turns a message into findings, and says nothing about what they mean.

The passive ones read the message alone (:func:`gateway.checks.passive.inspect`, run in the right place by
:class:`gateway.checks.inspector.Inspector`); ``virus`` asks clamd.
"""
