"""Is a method sound? `check_selector(my_factory)` says so, or names what is wrong."""

from jaxbudget.testing.check import Unsound, check_selector
from jaxbudget.testing.toy import MODEL, SPEC, data

__all__ = ['MODEL', 'SPEC', 'Unsound', 'check_selector', 'data']
