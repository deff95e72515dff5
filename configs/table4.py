"""The packaged config of this name, for `python launch.py --config=configs/table4.py`."""

from jaxbudget.lab.configs.table4 import get_config as get_config
