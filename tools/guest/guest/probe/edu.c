/* QEMU's educational device: registers, MSI, DMA. */
#include <linux/vfio.h>
#include <stdio.h>
#include <string.h>
#include <unistd.h>

#include "probe.h"

/* offsets in BAR 0 */
enum {
	ID = 0x00,
	LIVENESS = 0x04,
	FACTORIAL = 0x08,
	STATUS = 0x20,
	IRQ_STATUS = 0x24,
	IRQ_RAISE = 0x60,
	IRQ_ACK = 0x64,
	DMA_SRC = 0x80,
	DMA_DST = 0x88,
	DMA_COUNT = 0x90,
	DMA_CMD = 0x98,
};
#define STATUS_COMPUTING 0x01u
#define DMA_START 0x1u
#define DMA_TO_RAM 0x2u
#define DMA_IRQ 0x4u
#define DMA_DONE 0x100u /* in the interrupt status */
#define BUFFER 0x40000u /* the device's own memory, as its DMA engine addresses it */

#define IOVA 0x100000u /* the device reaches 28 bits */
#define BYTES 4096u
#define PATIENCE_MS 30000

static void copy(volatile uint8_t *bar, int event, uint64_t from, uint64_t to, uint32_t command, const char *what)
{
	put64(bar, DMA_SRC, from);
	put64(bar, DMA_DST, to);
	put64(bar, DMA_COUNT, BYTES);
	put32(bar, DMA_CMD, DMA_START | DMA_IRQ | command);
	check(interrupts(event) == 1, what);
	check(get32(bar, IRQ_STATUS) == DMA_DONE, "the interrupt status names the DMA");
	put32(bar, IRQ_ACK, DMA_DONE);
	check(get32(bar, IRQ_STATUS) == 0, "and is 0 once acknowledged");
}

int edu(const char *address)
{
	struct device device = open_device(address);
	volatile uint8_t *bar = map_bar(&device, VFIO_PCI_BAR0_REGION_INDEX);
	unsigned i, round;
	uint8_t *memory;
	int event;

	printf("identification %08x\n", get32(bar, ID));
	check((get32(bar, ID) & 0xff) == 0xed, "it is the educational device");
	put32(bar, LIVENESS, 0x12345678);
	check(get32(bar, LIVENESS) == ~0x12345678u, "it inverts what is written to the liveness register");
	put32(bar, FACTORIAL, 10);
	for (i = 0; i < PATIENCE_MS && (get32(bar, STATUS) & STATUS_COMPUTING); i++)
		usleep(1000);
	check(get32(bar, FACTORIAL) == 3628800, "the factorial of 10 is 3628800");

	route_irqs(&device, VFIO_PCI_MSI_IRQ_INDEX, &event, 1);
	put32(bar, IRQ_RAISE, 0x2);
	check(interrupts(event) == 1, "an MSI arrives when one is raised");
	check(get32(bar, IRQ_STATUS) == 0x2, "the interrupt status is what was raised");
	put32(bar, IRQ_ACK, 0x2);

	for (round = 1; round <= 2; round++) {
		memory = dma_map(&device, IOVA, 2 * BYTES);
		pattern(memory, BYTES, round);
		copy(bar, event, IOVA, BUFFER, 0, "an MSI tells of the end of DMA from memory");
		copy(bar, event, BUFFER, IOVA + BYTES, DMA_TO_RAM, "an MSI tells of the end of DMA to memory");
		check(memcmp(memory, memory + BYTES, BYTES) == 0, "4096 bytes came back as they were sent");
		dma_unmap(&device, IOVA, memory, 2 * BYTES);
	}
	return 0;
}
