"""How well the information types are found: precision, recall and F1 on four sets, beside another product."""
