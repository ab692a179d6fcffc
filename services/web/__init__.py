"""HTTPS servers of nodes: identities of callers, errors as JSON, and an end together with the node's."""
