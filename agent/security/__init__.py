"""Keys the station holds, roots and servers it trusts, and whether its clock may be believed."""
