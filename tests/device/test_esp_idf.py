"""The template esp-idf against ESP-IDF's published formats, and its C on the host with stand-ins for ESP-IDF's API:
https://docs.espressif.com/projects/esp-idf/en/stable/esp32c3/api-guides/build-system.html
https://docs.espressif.com/projects/idf-component-manager/en/latest/reference/manifest_file.html"""

from __future__ import annotations

import re
import subprocess
from pathlib import Path

import numpy as np
import pytest
import small
import yaml

from embbert_tvm.device.device import Device
from embbert_tvm.device.link import ProcessLink
from embbert_tvm.device.package import Package, load_package, load_vectors
from embbert_tvm.device.project import EXAMPLE, component_name, load_template, write_project

PREFIX = "intent"
COMPONENT = component_name(PREFIX)
HEADERS = {
    "driver/uart.h": """\
#include <stddef.h>
#include <stdint.h>
#include "freertos/FreeRTOS.h"
enum { UART_NUM_0, UART_DATA_8_BITS, UART_PARITY_DISABLE, UART_STOP_BITS_1, UART_HW_FLOWCTRL_DISABLE };
enum { UART_SCLK_DEFAULT, UART_PIN_NO_CHANGE = -1 };
typedef struct { int baud_rate, data_bits, parity, stop_bits, flow_ctrl, source_clk; } uart_config_t;
int uart_driver_install(int port, int rx, int tx, int queue, void *handle, int flags);
int uart_param_config(int port, const uart_config_t *config);
int uart_set_pin(int port, int tx, int rx, int rts, int cts);
int uart_read_bytes(int port, void *bytes, uint32_t n, TickType_t ticks);
int uart_write_bytes(int port, const void *bytes, size_t n);
int uart_wait_tx_done(int port, TickType_t ticks);
""",
    "esp_system.h": "void esp_restart(void);\n",
    "esp_timer.h": "#include <stdint.h>\nint64_t esp_timer_get_time(void);\n",
    "freertos/FreeRTOS.h": """\
#include <stdint.h>
typedef uint32_t TickType_t;
#define portMAX_DELAY 0xFFFFFFFFu
#define pdMS_TO_TICKS(ms) ((ms) / 10u)
""",
    "freertos/task.h": "unsigned uxTaskGetStackHighWaterMark(void *task);\n",
    "sdkconfig.h": """\
#define CONFIG_ESP_DEFAULT_CPU_FREQ_MHZ 160
#define CONFIG_ESP_MAIN_TASK_STACK_SIZE 8192
#define CONFIG_EMBBERT_INTENT_PROFILE 1
""",
    "soc/uart_pins.h": "#define U0TXD_GPIO_NUM 21\n#define U0RXD_GPIO_NUM 20\n",
}
STAND_IN = """\
#define _POSIX_C_SOURCE 200112L
#include <poll.h>
#include <stdlib.h>
#include <time.h>
#include <unistd.h>
#include "driver/uart.h"
#include "esp_system.h"
#include "esp_timer.h"
#include "freertos/task.h"

int uart_driver_install(int port, int rx, int tx, int queue, void *handle, int flags)
{
    return port + tx + queue + flags + (handle != NULL) + (rx <= 128); /* a driver's buffer must exceed the FIFO */
}
int uart_param_config(int port, const uart_config_t *config) { return config->baud_rate != 115200 || port; }
int uart_set_pin(int port, int tx, int rx, int rts, int cts) { return port + (tx == rx) + (rts != cts); }
int uart_read_bytes(int port, void *bytes, uint32_t n, TickType_t ticks)
{
    struct pollfd input = {STDIN_FILENO, POLLIN, 0};
    if (poll(&input, 1, ticks == portMAX_DELAY ? -1 : (int)ticks * 10) <= 0)
        return 0;
    if (read(STDIN_FILENO, bytes, n) <= 0)
        exit(port);
    return 1;
}
int uart_write_bytes(int port, const void *bytes, size_t n) { return (int)write(STDOUT_FILENO, bytes, n) + port; }
int uart_wait_tx_done(int port, TickType_t ticks) { return port || !ticks; }
void esp_restart(void) { exit(3); }
int64_t esp_timer_get_time(void)
{
    struct timespec now;
    clock_gettime(CLOCK_MONOTONIC, &now);
    return (int64_t)now.tv_sec * 1000000 + now.tv_nsec / 1000;
}
unsigned uxTaskGetStackHighWaterMark(void *task) { return task ? 0u : 6000u; }
void app_main(void);
int main(void)
{
    app_main();
    return 0;
}
"""


@pytest.fixture(scope="module")
def package() -> Package:
    return load_package(small.package(prefix=PREFIX))


@pytest.fixture(scope="module")
def folder(package, tmp_path_factory) -> Path:
    """The project, with the stand-ins beside it."""
    root = tmp_path_factory.mktemp("esp idf")
    write_project(package, load_template("esp-idf"), root / "fw")
    for name, text in HEADERS.items():
        (root / "idf" / name).parent.mkdir(parents=True, exist_ok=True)
        (root / "idf" / name).write_text(text)
    (root / "idf.c").write_text(STAND_IN)
    return root


def registered(listing: str) -> dict[str, list[str]]:
    """The arguments of idf_component_register() by keyword."""
    (call,) = re.findall(r"idf_component_register\((.*?)\)", listing, re.DOTALL)
    found: dict[str, list[str]] = {}
    for word in re.findall(r'"[^"]*"|\S+', call):
        if word.isupper():
            found[word] = []
        else:
            found[list(found)[-1]].append(word.strip('"'))
    return found


def test_the_component_is_one(package, folder):
    component = folder / "fw/components" / COMPONENT
    manifest = yaml.safe_load((component / "idf_component.yml").read_text())
    assert set(manifest) <= {"version", "description", "url", "license", "dependencies", "targets", "maintainers"}
    assert re.fullmatch(r"\d+\.\d+\.\d+", manifest["version"])
    assert manifest["license"] == "Apache-2.0"
    assert manifest["dependencies"] == {"idf": {"version": ">=5.0"}}
    found = registered((component / "CMakeLists.txt").read_text())
    assert sorted(found["SRCS"]) == sorted(f"src/{path.name}" for path in package.sources)
    assert all((component / path).exists() for keyword in found.values() for path in keyword)
    (symbol,) = re.findall(r"^    config (\w+)$", (component / "Kconfig").read_text(), re.MULTILINE)
    assert f"CONFIG_{symbol}=y" in (folder / "fw/server/sdkconfig.defaults").read_text().splitlines()


@pytest.mark.parametrize("where", [".", "server"])
def test_the_projects_are_made_as_idf_py_expects(folder, where):
    root = folder / "fw" / where
    lines = (root / "CMakeLists.txt").read_text().splitlines()
    order = [
        lines.index(line) for line in lines if line.startswith(("cmake_minimum", "set(EXTRA", "include", "project"))
    ]
    assert order == sorted(order)
    assert "include($ENV{IDF_PATH}/tools/cmake/project.cmake)" in lines
    found = registered((root / "main/CMakeLists.txt").read_text())
    assert all((root / "main" / name).is_file() for name in found["SRCS"])
    assert COMPONENT in found["REQUIRES"]
    for line in (root / "sdkconfig.defaults").read_text().splitlines():
        assert re.fullmatch(r"#.*|CONFIG_[A-Z0-9_]+=\w+", line)


def compiled(folder: Path, main: list[Path], program: Path, *flags: str) -> Path:
    component = folder / "fw/components" / COMPONENT
    sources = [*main, *sorted((component / "src").glob("*.c")), folder / "idf.c"]
    include = [f"-I{folder / 'idf'}", f"-I{component / 'include'}", f"-I{component / 'src'}", f"-I{main[0].parent}"]
    command = ["gcc", "-std=gnu17", "-O1", "-Wall", "-Wextra", "-Werror", *flags, *include, *sources, "-lm"]
    done = subprocess.run([*map(str, command), "-o", program], capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    return program


def test_the_example_prints_a_label(package, folder, tmp_path):
    program = compiled(folder, [folder / "fw/main/main.c"], tmp_path / "example")
    done = subprocess.run([program], capture_output=True, text=True, timeout=60)
    label, took = done.stdout.splitlines()
    assert label.removeprefix("label: ") in package.labels
    assert re.fullmatch(r"took \d+ us", took)
    assert EXAMPLE in (folder / "fw/main/classify.h").read_text()


def test_the_server_speaks_the_protocol(package, folder, tmp_path):
    main = folder / "fw/server/main"
    (tmp_path / "main.c").write_text(f'#define main server_main\n#include "{main / "main.c"}"\n')
    sources = [main / "port_esp_idf.c", main / "frames.c", tmp_path / "main.c"]
    program = compiled(folder, sources, tmp_path / "server", "-DINTENT_PROFILE", "-Wno-missing-prototypes")
    with Device(ProcessLink([str(program)], "the server"), package, "esp-idf", 60) as device:
        device.check()
        assert device.holds.clock_hz == 160_000_000
        for vector in load_vectors(package):
            run = device.run(vector.ids)
            assert np.array_equal(run.logits.view("u4"), vector.logits.view("u4"))
        assert (run.stack, run.cycles > 0) == (8192 - 6000, True)
        assert len(device.profile([1, 2])) == len(package.steps)
        assert device.tokenize(small.TEXTS[0])
