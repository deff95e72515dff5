"""The packaged config of this name, for `python launch.py --config=configs/table3.py`."""

from jaxbudget.lab.configs.table3 import get_config as get_config
