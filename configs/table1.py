"""The packaged config of this name, for `python launch.py --config=configs/table1.py`."""

from jaxbudget.lab.configs.table1 import get_config as get_config
