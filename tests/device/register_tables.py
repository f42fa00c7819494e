"""The reference manuals' registers by peripheral and offset, and how the boards' start-ups and drivers leave them."""

from __future__ import annotations


def fields(**places: int) -> int:
    """A register's value from `name_at=value`: each value at the bit that ends its name."""
    return sum(value << int(name.rsplit("_", 1)[1]) for name, value in places.items())


# By peripheral: its base, and its registers' offsets. RM0390 and RM0090: STM32F4; RM0385: F7; RM0433: H743; RM0399:
# H747; RM0455: H7B3; RM0456: U5.
F4 = {
    "FLASH": (0x40023C00, {"ACR": 0x00}),
    "PWR": (0x40007000, {"CR": 0x00, "CSR": 0x04}),
    "RCC": (0x40023800, {"CR": 0x00, "PLLCFGR": 0x04, "CFGR": 0x08, "AHB1ENR": 0x30, "APB1ENR": 0x40, "APB2ENR": 0x44}),
    "GPIOA": (0x40020000, {"MODER": 0x00, "AFRL": 0x20, "AFRH": 0x24}),
    "USART1": (0x40011000, {"BRR": 0x08, "CR1": 0x0C}),
    "USART2": (0x40004400, {"BRR": 0x08, "CR1": 0x0C}),
    "IWDG": (0x40003000, {"KR": 0x00, "PR": 0x04, "RLR": 0x08, "SR": 0x0C}),
}
F7 = F4 | {
    "PWR": (0x40007000, {"CR1": 0x00, "CSR1": 0x04}),
    "RCC": (0x40023800, {**F4["RCC"][1], "DCKCFGR2": 0x90}),
    "GPIOB": (0x40020400, F4["GPIOA"][1]),
    "USART1": (0x40011000, {"CR1": 0x00, "BRR": 0x0C}),
}
# RM0041: STM32F100.
F1 = {
    "RCC": (0x40021000, {"CR": 0x00, "CFGR": 0x04, "APB2ENR": 0x18}),
    "GPIOA": (0x40010800, {"CRH": 0x04}),
    "USART1": (0x40013800, F4["USART1"][1]),
    "IWDG": F4["IWDG"],
}
H7 = {
    "FLASH": (0x52002000, {"ACR": 0x00}),
    "PWR": (0x58024800, {"CSR1": 0x04, "CR3": 0x0C, "D3CR": 0x18}),
    "RCC": (
        0x58024400,
        {
            "CR": 0x00, "CFGR": 0x10, "D1CFGR": 0x18, "D2CFGR": 0x1C, "D3CFGR": 0x20, "PLLCKSELR": 0x28,
            "PLLCFGR": 0x2C, "PLL1DIVR": 0x30, "D2CCIP2R": 0x54, "AHB2ENR": 0xDC, "AHB4ENR": 0xE0, "APB1LENR": 0xE8,
            "APB2ENR": 0xF0,
        },
    ),
    "GPIOA": (0x58020000, F4["GPIOA"][1]),
    "GPIOD": (0x58020C00, F4["GPIOA"][1]),
    "USART1": (0x40011000, {"CR1": 0x00, "BRR": 0x0C}),
    "USART3": (0x40004800, {"CR1": 0x00, "BRR": 0x0C}),
    "IWDG": (0x58004800, F4["IWDG"][1]),
}  # fmt: skip
H7B = H7 | {"RCC": (0x58024400, {"CDCCIP2R": 0x54, "AHB4ENR": 0x140, "APB2ENR": 0x150})}
U5 = {
    "FLASH": (0x40022000, {"ACR": 0x00}),
    "ICACHE": (0x40030400, {"CR": 0x00}),
    "PWR": (0x46020800, {"VOSR": 0x0C}),
    "RCC": (
        0x46020C00,
        {
            "CR": 0x00, "CFGR1": 0x1C, "PLL1CFGR": 0x28, "PLL1DIVR": 0x34, "AHB2ENR1": 0x8C, "AHB3ENR": 0x94,
            "APB2ENR": 0xA4, "CCIPR1": 0xE0,
        },
    ),
    "GPIOA": (0x42020000, F4["GPIOA"][1]),
    "USART1": (0x40013800, {"CR1": 0x00, "BRR": 0x0C}),
    "IWDG": (0x40003000, F4["IWDG"][1]),
}  # fmt: skip
# nRF51 Series Reference Manual v3.0, nRF52840 Product Specification v1.7, nRF5340 Product Specification v1.3.
UART = {"START_RX": 0x000, "START_TX": 0x008, "ENABLE": 0x500, "PSELTXD": 0x50C, "PSELRXD": 0x514, "BAUDRATE": 0x524}
WDT = {"TASKS_START": 0x000, "CRV": 0x504, "RREN": 0x508, "CONFIG": 0x50C}
CLOCK = {"TASKS_HFCLKSTART": 0x000, "EVENTS_HFCLKSTARTED": 0x100}
NRF51 = {
    "P0": (0x50000000, {"OUTSET": 0x508, **{f"PIN_CNF{n}": 0x700 + 4 * n for n in range(32)}}),
    "CLOCK": (0x40000000, CLOCK),
    "UART0": (0x40002000, UART),
    "WDT": (0x40010000, WDT),
}
NRF52 = NRF51 | {"NVMC": (0x4001E000, {"ICACHECNF": 0x540})}
UARTE = {
    "TASKS_STARTRX": 0x000, "EVENTS_ENDRX": 0x110, "ENABLE": 0x500, "PSELRTS": 0x508, "PSELTXD": 0x50C,
    "PSELCTS": 0x510, "PSELRXD": 0x514, "BAUDRATE": 0x524, "RXDPTR": 0x534, "RXDMAXCNT": 0x538, "TXDPTR": 0x544,
    "TXDMAXCNT": 0x548, "CONFIG": 0x56C,
}  # fmt: skip
NRF53 = {
    "P0": (0x50842500, {"OUTSET": 0x008, **{f"PIN_CNF{n}": 0x200 + 4 * n for n in range(32)}}),
    "CLOCK": (0x50005000, CLOCK),
    "CACHE": (0x50001000, {"ENABLE": 0x500}),
    "UARTE0": (0x50008000, UARTE),
    "WDT": (0x50018000, WDT),
}
# RP2350 Datasheet, the list of registers of each chapter.
RP2350 = {
    "CLOCKS": (
        0x40010000,
        {
            "CLK_REF_CTRL": 0x30, "CLK_REF_SELECTED": 0x38, "CLK_SYS_CTRL": 0x3C, "CLK_SYS_SELECTED": 0x44,
            "CLK_PERI_CTRL": 0x48,
        },
    ),
    "PSM": (0x40018000, {"WDSEL": 0x8}),
    "RESETS": (0x40020000, {"RESET": 0x0, "RESET_DONE": 0x8}),
    "IO_BANK0": (0x40028000, {"GPIO0_CTRL": 0x004, "GPIO1_CTRL": 0x00C}),
    "PADS_BANK0": (0x40038000, {"GPIO0": 0x04, "GPIO1": 0x08}),
    "XOSC": (0x40048000, {"CTRL": 0x00, "STATUS": 0x04, "STARTUP": 0x0C}),
    "PLL_SYS": (0x40050000, {"CS": 0x00, "PWR": 0x04, "FBDIV_INT": 0x08, "PRIM": 0x0C}),
    "UART0": (0x40070000, {"IBRD": 0x24, "FBRD": 0x28, "LCR_H": 0x2C, "CR": 0x30}),
    "WATCHDOG": (0x400D8000, {"CTRL": 0x00, "LOAD": 0x04}),
    "TICKS": (0x40108000, {"WATCHDOG_CTRL": 0x30, "WATCHDOG_CYCLES": 0x34}),
}  # fmt: skip
# RA8M1 Group User's Manual: Hardware, as Renesas' R7FA8M1AH.h has it: base, registers, and those of 1 and 2 bytes.
RA8 = {
    "SYSTEM": (
        0x4001E000,
        {
            "SCKDIVCR": 0x20, "SCKDIVCR2": 0x24, "SCKSCR": 0x26, "PLLCCR": 0x28, "PLLCR": 0x2A, "MOSCCR": 0x32,
            "OSCSF": 0x3C, "PLLCCR2": 0x4C, "SCICKDIVCR": 0x54, "SCICKCR": 0x55, "MOSCWTCR": 0xA2, "PRCR": 0x3FA,
            "MOMCR": 0xA50,
        },
    ),
    "FCACHE": (0x4001C100, {"FCACHEE": 0x00, "FCACHEIV": 0x04, "FLWT": 0x1C}),
    "MSTP": (0x40203000, {"MSTPCRB": 0x04}),
    "PFS": (0x40400800, {"P1014": 10 * 0x40 + 14 * 4, "P1015": 10 * 0x40 + 15 * 4}),
    "PMISC": (0x40400D00, {"PWPRS": 0x14}),
    "SCI9": (0x40358900, {"CCR0": 0x08, "CCR1": 0x0C, "CCR2": 0x10, "CCR3": 0x14, "CFCLR": 0x68}),
}  # fmt: skip
RA8_BYTES = {
    "SYSTEM.SCKDIVCR": 4, "SYSTEM.PLLCCR": 2, "SYSTEM.PLLCCR2": 2, "SYSTEM.PRCR": 2, "FCACHE.FCACHEE": 2,
    "FCACHE.FCACHEIV": 2, "FCACHE.FLWT": 1, "PMISC.PWPRS": 1,
}  # fmt: skip

IWDG = {"IWDG.KR": 0xAAAA, "IWDG.PR": 6, "IWDG.RLR": 0xFFF}
V3_ON = fields(UE_0=1, RE_2=1, TE_3=1)
PLL_LOCKED = fields(PLLON_24=1)
RP2350_VALUES = {
    "XOSC.STARTUP": 47,
    "XOSC.CTRL": fields(FREQ_RANGE_0=0xAA0, ENABLE_12=0xFAB),
    "CLOCKS.CLK_REF_CTRL": 2,
    "CLOCKS.CLK_SYS_CTRL": fields(SRC_0=1, AUXSRC_5=0),
    "CLOCKS.CLK_PERI_CTRL": fields(AUXSRC_5=4, ENABLE_11=1),
    "RESETS.RESET": 0,
    "PLL_SYS.CS": 1,
    "PLL_SYS.FBDIV_INT": 125,
    "PLL_SYS.PWR": 0,
    "PLL_SYS.PRIM": fields(POSTDIV1_16=5, POSTDIV2_12=2),
    "PADS_BANK0.GPIO0": fields(IE_6=1),
    "PADS_BANK0.GPIO1": fields(IE_6=1),
    "IO_BANK0.GPIO0_CTRL": 2,
    "IO_BANK0.GPIO1_CTRL": 2,
    "UART0.CR": fields(UARTEN_0=1, TXE_8=1, RXE_9=1),
    "UART0.IBRD": 6,
    "UART0.FBRD": 33,
    "UART0.LCR_H": fields(FEN_4=1, WLEN_5=3),
    "TICKS.WATCHDOG_CYCLES": 12,
    "TICKS.WATCHDOG_CTRL": 1,
    "PSM.WDSEL": (1 << 25) - 1 - fields(ROSC_2=1, XOSC_3=1),
    "WATCHDOG.LOAD": 0xFFFFFF,
    "WATCHDOG.CTRL": fields(ENABLE_30=1),
}
RP2350_READY = {
    "XOSC.STATUS": fields(STABLE_31=1),
    "RESETS.RESET_DONE": fields(IO_BANK0_6=1, PADS_BANK0_9=1, PLL_SYS_14=1, UART0_26=1),
    "PLL_SYS.CS": fields(LOCK_31=1),
}


def nrf_values(uart: str, tx: int, rx: int, **more: int) -> dict[str, int]:
    output, input_pulled_up = fields(DIR_0=1, INPUT_1=1), fields(PULL_2=3)
    return {
        "CLOCK.EVENTS_HFCLKSTARTED": 0,
        "CLOCK.TASKS_HFCLKSTART": 1,
        "P0.OUTSET": 1 << tx,
        f"P0.PIN_CNF{tx}": output,
        f"P0.PIN_CNF{rx}": input_pulled_up,
        f"{uart}.PSELTXD": tx,
        f"{uart}.PSELRXD": rx,
        "WDT.CRV": 16 * 32768 - 1,
        "WDT.RREN": 1,
        "WDT.CONFIG": 1,
        "WDT.TASKS_START": 1,
        **{key.replace("__", "."): value for key, value in more.items()},
    }


UART_ON = {"UART0__BAUDRATE": 0x01D7E000, "UART0__ENABLE": 4, "UART0__START_RX": 1, "UART0__START_TX": 1}
UARTE_ON = {
    "UARTE0__BAUDRATE": 0x01D60000, "UARTE0__ENABLE": 8, "UARTE0__CONFIG": 0, "UARTE0__PSELRTS": 0xFFFFFFFF,
    "UARTE0__PSELCTS": 0xFFFFFFFF, "UARTE0__RXDMAXCNT": 1, "UARTE0__TXDMAXCNT": 1, "UARTE0__EVENTS_ENDRX": 0,
    "UARTE0__TASKS_STARTRX": 1,
}  # fmt: skip
NRF_READY = {"CLOCK.EVENTS_HFCLKSTARTED": 1}
F4_COMMON = {
    "FLASH.ACR": fields(LATENCY_0=5, PRFTEN_8=1, ICEN_9=1, DCEN_10=1),
    "RCC.CR": PLL_LOCKED,
    "RCC.CFGR": fields(SW_0=2, PPRE1_10=0b101, PPRE2_13=0b100),
    "RCC.AHB1ENR": fields(GPIOA_0=1),
}
# By board: the tables, the registers as they are left, and the bits that are read as set once requested.
EXPECTED = {
    "nucleo_f446re": (
        F4,
        F4_COMMON
        | {
            "PWR.CR": fields(VOS_14=3, ODEN_16=1, ODSWEN_17=1),
            "RCC.PLLCFGR": fields(M_0=8, N_6=180, P_16=0, SRC_22=0, Q_24=8, R_28=2),
            "RCC.APB1ENR": fields(USART2_17=1, PWR_28=1),
            "GPIOA.MODER": fields(PA2_4=2, PA3_6=2),
            "GPIOA.AFRL": fields(PA2_8=7, PA3_12=7),
            "USART2.BRR": 391,
            "USART2.CR1": fields(UE_13=1, TE_3=1, RE_2=1),
        }
        | IWDG,
        {"PWR.CSR": fields(ODRDY_16=1, ODSWRDY_17=1), "RCC.CR": fields(PLLRDY_25=1), "RCC.CFGR": fields(SWS_2=2)},
    ),
    "netduinoplus2": (
        F4,
        F4_COMMON
        | {
            "PWR.CR": fields(VOS_14=1),
            "RCC.PLLCFGR": fields(M_0=8, N_6=168, P_16=0, SRC_22=0, Q_24=7),
            "RCC.APB1ENR": fields(PWR_28=1),
            "RCC.APB2ENR": fields(USART1_4=1),
            "GPIOA.MODER": fields(PA9_18=2, PA10_20=2),
            "GPIOA.AFRH": fields(PA9_4=7, PA10_8=7),
            "USART1.BRR": 729,
            "USART1.CR1": fields(UE_13=1, TE_3=1, RE_2=1),
        }
        | IWDG,
        {"RCC.CR": fields(PLLRDY_25=1), "RCC.CFGR": fields(SWS_2=2)},
    ),
    "stm32vldiscovery": (
        F1,
        {
            "RCC.CR": PLL_LOCKED,
            "RCC.CFGR": fields(SW_0=2, PLLSRC_16=0, PLLXTPRE_17=0, PLLMUL_18=4),
            "RCC.APB2ENR": fields(IOPA_2=1, USART1_14=1),
            "GPIOA.CRH": fields(MODE9_4=3, CNF9_6=2, MODE10_8=0, CNF10_10=1),
            "USART1.BRR": 208,
            "USART1.CR1": fields(UE_13=1, TE_3=1, RE_2=1),
        }
        | IWDG,
        {"RCC.CR": fields(PLLRDY_25=1), "RCC.CFGR": fields(SWS_2=2)},
    ),
    "stm32f746g_disco": (
        F7,
        {
            "FLASH.ACR": fields(LATENCY_0=7, PRFTEN_8=1, ARTEN_9=1),
            "PWR.CR1": fields(VOS_14=3, ODEN_16=1, ODSWEN_17=1),
            "RCC.PLLCFGR": fields(M_0=8, N_6=216, P_16=0, SRC_22=0, Q_24=9),
            "RCC.CR": PLL_LOCKED,
            "RCC.CFGR": fields(SW_0=2, PPRE1_10=0b101, PPRE2_13=0b100),
            "RCC.AHB1ENR": fields(GPIOA_0=1, GPIOB_1=1),
            "RCC.APB1ENR": fields(PWR_28=1),
            "RCC.APB2ENR": fields(USART1_4=1),
            "RCC.DCKCFGR2": fields(USART1SEL_0=2),
            "GPIOA.MODER": fields(PA9_18=2),
            "GPIOA.AFRH": fields(PA9_4=7),
            "GPIOB.MODER": fields(PB7_14=2),
            "GPIOB.AFRL": fields(PB7_28=7),
            "USART1.BRR": 139,
            "USART1.CR1": V3_ON,
        }
        | IWDG,
        {"PWR.CSR1": fields(ODRDY_16=1, ODSWRDY_17=1), "RCC.CR": fields(PLLRDY_25=1), "RCC.CFGR": fields(SWS_2=2)},
    ),
    "nucleo_h743zi2": (
        H7,
        {
            "FLASH.ACR": fields(LATENCY_0=2, WRHIGHFREQ_4=2),
            "PWR.CR3": fields(LDOEN_1=1),
            "PWR.D3CR": fields(VOS_14=3),
            "RCC.AHB2ENR": fields(SRAM1_29=1, SRAM2_30=1, SRAM3_31=1),
            "RCC.PLLCKSELR": fields(PLLSRC_0=0, DIVM1_4=8),
            "RCC.PLLCFGR": fields(PLL1VCOSEL_1=0, PLL1RGE_2=3, DIVP1EN_16=1),
            "RCC.PLL1DIVR": fields(N1_0=99, P1_9=1, Q1_16=1, R1_24=1),
            "RCC.CR": fields(PLL1ON_24=1),
            "RCC.D1CFGR": fields(HPRE_0=8, D1PPRE_4=4, D1CPRE_8=0),
            "RCC.D2CFGR": fields(D2PPRE1_4=4, D2PPRE2_8=4),
            "RCC.D3CFGR": fields(D3PPRE_4=4),
            "RCC.CFGR": fields(SW_0=3),
            "RCC.AHB4ENR": fields(GPIOD_3=1),
            "RCC.APB1LENR": fields(USART3_18=1),
            "RCC.D2CCIP2R": fields(USART28SEL_0=3),
            "GPIOD.MODER": fields(PD8_16=2, PD9_18=2),
            "GPIOD.AFRH": fields(PD8_0=7, PD9_4=7),
            "USART3.BRR": 556,
            "USART3.CR1": V3_ON,
        }
        | IWDG,
        {
            "PWR.CSR1": fields(ACTVOSRDY_13=1),
            "PWR.D3CR": fields(VOSRDY_13=1),
            "RCC.CR": fields(PLL1RDY_25=1),
            "RCC.CFGR": fields(SWS_3=3),
        },
    ),
    "portenta_h7": (
        H7,
        {
            "RCC.CR": fields(HSION_0=1),
            "RCC.AHB4ENR": fields(GPIOA_0=1),
            "RCC.APB2ENR": fields(USART1_4=1),
            "RCC.D2CCIP2R": fields(USART16SEL_3=3),
            "GPIOA.MODER": fields(PA9_18=2, PA10_20=2),
            "GPIOA.AFRH": fields(PA9_4=7, PA10_8=7),
            "USART1.BRR": 556,
            "USART1.CR1": V3_ON,
        }
        | IWDG,
        {"RCC.CR": fields(HSIRDY_2=1)},
    ),
    "stm32h7b3i_dk": (
        H7B,
        {
            "RCC.AHB4ENR": fields(GPIOA_0=1),
            "RCC.APB2ENR": fields(USART1_4=1),
            "RCC.CDCCIP2R": fields(USART16910SEL_3=3),
            "GPIOA.MODER": fields(PA9_18=2, PA10_20=2),
            "GPIOA.AFRH": fields(PA9_4=7, PA10_8=7),
            "USART1.BRR": 556,
            "USART1.CR1": V3_ON,
        }
        | IWDG,
        {},
    ),
    "b_u585i_iot02a": (
        U5,
        {
            "FLASH.ACR": fields(LATENCY_0=4, PRFTEN_8=1),
            "ICACHE.CR": 1,
            "PWR.VOSR": fields(VOS_16=3, BOOSTEN_18=1),
            "RCC.AHB3ENR": fields(PWR_2=1),
            "RCC.PLL1CFGR": fields(PLL1SRC_0=1, PLL1RGE_2=0, PLL1M_8=0, PLL1MBOOST_12=0, PLL1REN_18=1),
            "RCC.PLL1DIVR": fields(N_0=79, P_9=1, Q_16=1, R_24=1),
            "RCC.CR": fields(HSION_8=1, PLL1ON_24=1),
            "RCC.CFGR1": fields(SW_0=3),
            "RCC.AHB2ENR1": fields(GPIOA_0=1),
            "RCC.APB2ENR": fields(USART1_14=1),
            "RCC.CCIPR1": fields(USART1SEL_0=2),
            "GPIOA.MODER": fields(PA9_18=2, PA10_20=2),
            "GPIOA.AFRH": fields(PA9_4=7, PA10_8=7),
            "USART1.BRR": 139,
            "USART1.CR1": V3_ON,
        }
        | IWDG,
        {
            "PWR.VOSR": fields(BOOSTRDY_14=1, VOSRDY_15=1),
            "RCC.CR": fields(HSIRDY_10=1, PLL1RDY_25=1),
            "RCC.CFGR1": fields(SWS_2=3),
        },
    ),
    "microbit": (NRF51, nrf_values("UART0", 24, 25, **UART_ON), NRF_READY),
    "nrf52840dk": (NRF52, nrf_values("UART0", 6, 8, **UART_ON, NVMC__ICACHECNF=1), NRF_READY),
    "nrf5340dk": (NRF53, nrf_values("UARTE0", 20, 22, **UARTE_ON, CACHE__ENABLE=1), NRF_READY),
    "raspberry_pi_pico2": (RP2350, RP2350_VALUES, RP2350_READY),
    "rp2350_riscv": (RP2350, RP2350_VALUES, RP2350_READY),
    "ek_ra8m1": (
        RA8,
        {
            "SYSTEM.PRCR": fields(PRC0_0=1, PRC1_1=1, KEY_8=0xA5),
            "FCACHE.FCACHEIV": 1,
            "FCACHE.FCACHEE": 1,
            "FCACHE.FLWT": 4,
            "SYSTEM.MOMCR": fields(MODRV_1=3, RESERVED_4=1),
            "SYSTEM.MOSCWTCR": 9,
            "SYSTEM.MOSCCR": 0,
            "SYSTEM.PLLCCR": fields(PLIDIV_0=1, PLSRCSEL_4=0, PLLMULNF_6=0, PLLMUL_8=95),
            "SYSTEM.PLLCCR2": fields(PLODIVP_0=1, PLODIVQ_4=1, PLODIVR_8=1),
            "SYSTEM.PLLCR": 0,
            "SYSTEM.SCKDIVCR": fields(PCKD_0=2, PCKC_4=3, PCKB_8=3, PCKA_12=2, BCK_16=2, PCKE_20=1, ICK_24=1, FCK_28=3),
            "SYSTEM.SCKDIVCR2": 0,
            "SYSTEM.SCKSCR": 5,
            "SYSTEM.SCICKDIVCR": 2,
            "SYSTEM.SCICKCR": fields(SCICKSEL_0=5),
            "MSTP.MSTPCRB": 0,
            "PMISC.PWPRS": fields(B0WI_7=1),
            "PFS.P1014": fields(DSCR_10=1, PMR_16=1, PSEL_24=5),
            "PFS.P1015": fields(PMR_16=1, PSEL_24=5),
            "SCI9.CCR0": fields(RE_0=1, TE_4=1),
            "SCI9.CCR1": fields(SPB2DT_4=1, SPB2IO_5=1),
            "SCI9.CCR2": fields(BGDM_4=1, ABCS_5=1, BRR_8=129),
            "SCI9.CCR3": fields(CHR_8=2, LSBF_12=1),
            "SCI9.CFCLR": fields(ORERC_24=1, PERC_27=1, FERC_28=1, RDRFC_31=1),
        },
        {"SYSTEM.OSCSF": fields(MOSCSF_3=1, PLLSF_5=1)},
    ),
}
