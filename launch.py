"""Launches jaxbudget from its repository, as the command `jaxbudget` does where it is installed.

python launch.py --config=configs/quickstart.py --workdir=runs/quickstart
python launch.py --config=configs/single.py:dataset=cifar10,selector=p_sgd,budget=0.3
"""

from jaxbudget.__main__ import main

if __name__ == '__main__':
  main()
