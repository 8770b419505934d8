"""Any `torch.nn.Module` as data: its layers, which channels are tied, how it is folded, cut, rounded and perturbed."""
