"""A Kubernetes control plane the hard way: certificates, units, push, proof."""
