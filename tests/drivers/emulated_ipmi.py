"""pyghmi's emulated IPMI BMC on a free port of 127.0.0.1; prints its port, then what it is told to do.

Run as a program, with the password in the environment as EMULATED_PASSWORD. pyghmi's own `fakebmc` program
listens on every interface, so only its class is used here.
"""

import os

from pyghmi.cmd.fakebmc import FakeBmc
from pyghmi.ipmi import bmc


class LoopbackBmc(FakeBmc):
    def __init__(self) -> None:
        bmc.Bmc.__init__(self, {"operator": os.environ["EMULATED_PASSWORD"]}, port=0, address="127.0.0.1")
        self.port = self.serversocket.getsockname()[1]  # pyghmi finds its sessions by it
        self.powerstate = "off"
        self.bootdevice = "default"
        print("port", self.port, flush=True)

    def set_boot_device(self, bootdevice: str) -> None:
        super().set_boot_device(bootdevice)
        print("told boot", bootdevice, flush=True)

    def power_on(self) -> None:
        super().power_on()
        print("told on", flush=True)

    def power_off(self) -> None:
        super().power_off()
        print("told off", flush=True)

    def power_shutdown(self) -> None:
        super().power_shutdown()
        print("told shutdown", flush=True)


if __name__ == "__main__":
    LoopbackBmc().listen()
