"""Everything Ray: starting and joining it, the pool of actors that score, tasks beside it. The only place that imports ray."""

from moderation.cluster.variables import check_variables

check_variables()  # before anything here imports Ray
