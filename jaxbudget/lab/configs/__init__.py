"""Configs that ship with the package: `jaxbudget --config=NAME`."""
