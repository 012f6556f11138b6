from convopt.algorithms._algorithm import *
