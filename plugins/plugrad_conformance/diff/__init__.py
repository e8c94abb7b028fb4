"""``plugrad diff``: the first op, forward or backward, whose results on two devices part.

One device runs the user's script. Each application of an op, and of a rule by the backward, is repeated at once on the
other device, from the same inputs (`lockstep`, `application`), and the results are compared (`agreement`). So a
rounding here does not count as a fault there, and a long script needs no more memory than a short one. What an op's
body is made of is looked at only where the op itself parts. Where nothing parts, the other device runs the script as
well, and must apply the same ops in the same order.

An application that parts is written into a file (`saved`), from which any device computes it again.

Ops that other threads of the script apply are not looked at: observers are of one thread.
"""

from plugrad_conformance.diff.command import diff_command

__all__ = ["diff_command"]
