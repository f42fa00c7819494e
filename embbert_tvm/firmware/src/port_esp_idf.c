/* SPDX-License-Identifier: Apache-2.0 */
/* The port of an Espressif chip under ESP-IDF: UART0 by its driver, the processor's clock by the system timer. */

#include "driver/uart.h"
#include "esp_system.h"
#include "esp_timer.h"
#include "freertos/FreeRTOS.h"
#include "freertos/task.h"
#include "sdkconfig.h"
#include "soc/uart_pins.h"

#include "port.h"

enum { UART = UART_NUM_0, BUFFER_BYTES = 4096 };

static uint8_t held; /* a byte that port_wait() has taken from the driver */
static int holds;
static int64_t start_us;

void port_init(void)
{
    const uart_config_t config = {
        .baud_rate = 115200,
        .data_bits = UART_DATA_8_BITS,
        .parity = UART_PARITY_DISABLE,
        .stop_bits = UART_STOP_BITS_1,
        .flow_ctrl = UART_HW_FLOWCTRL_DISABLE,
        .source_clk = UART_SCLK_DEFAULT,
    };
    uart_driver_install(UART, BUFFER_BYTES, 0, 0, NULL, 0);
    uart_param_config(UART, &config);
    uart_set_pin(UART, U0TXD_GPIO_NUM, U0RXD_GPIO_NUM, UART_PIN_NO_CHANGE, UART_PIN_NO_CHANGE);
}

static int take(TickType_t ticks)
{
    if (!holds)
        holds = uart_read_bytes(UART, &held, 1, ticks) == 1;
    return holds;
}

int port_ready(void) { return take(0); }

int port_wait(uint32_t milliseconds) { return take(pdMS_TO_TICKS(milliseconds) + 1); }

uint8_t port_read(void)
{
    while (!take(portMAX_DELAY)) {
    }
    holds = 0;
    return held;
}

void port_write(uint8_t byte) { uart_write_bytes(UART, &byte, 1); }

void port_flush(void) { uart_wait_tx_done(UART, portMAX_DELAY); }

uint32_t board_clock_hz(void) { return CONFIG_ESP_DEFAULT_CPU_FREQ_MHZ * 1000000u; }

/* Cycles, counted by the microsecond, as the core's own counter of 32 bits wraps within half a minute. */
uint64_t port_ticks(void) { return (uint64_t)(esp_timer_get_time() - start_us) * CONFIG_ESP_DEFAULT_CPU_FREQ_MHZ; }

void port_ticks_restart(void) { start_us = esp_timer_get_time(); }

uint8_t port_ticks_are(void) { return PORT_TICKS_PROCESSOR; }

uint32_t port_stack_used(void) { return CONFIG_ESP_MAIN_TASK_STACK_SIZE - (uint32_t)uxTaskGetStackHighWaterMark(NULL); }

/* ESP-IDF's own watchdogs stay as they are. */
void watchdog_start(void) {}

void watchdog_feed(void) {}

void restart(void)
{
    esp_restart();
    for (;;) {
    }
}

int server_main(void);
void app_main(void);
void app_main(void) { server_main(); }
