/* The reference test device: memory, a BAR that is mapped in parts, DMA through memory and by messages, MSI-X. */
#include <linux/vfio.h>
#include <stdio.h>
#include <string.h>
#include <unistd.h>

#include "probe.h"

/* registers in BAR 2 */
enum {
	ADDRESS = 0x00,
	LENGTH = 0x08,
	OFFSET = 0x0c,
	COMMAND = 0x10,
	STATUS = 0x14,
	VECTOR = 0x18,
	DMA_REGIONS = 0x20,
};
/* commands */
enum {
	READ_MEMORY = 1,
	WRITE_MEMORY = 2,
	SIGNAL = 3,
	READ_BY_MESSAGE = 5,
	WRITE_BY_MESSAGE = 6,
};
#define IN_PROGRESS 115u
#define VECTORS 8
#define IOVA 0x200000000ull /* beyond 32 bits */
#define BYTES 65536u
#define PATIENCE_MS 30000

/* where the parts of BAR 1 that can be mapped begin and end */
static const unsigned edges[] = { 0x1000, 0x2000, 0x4000, 0x6000 };

static void copy(volatile uint8_t *regs, uint32_t command, uint64_t address, uint32_t offset, const char *what)
{
	unsigned i;

	put64(regs, ADDRESS, address);
	put32(regs, LENGTH, BYTES);
	put32(regs, OFFSET, offset);
	put32(regs, COMMAND, command);
	for (i = 0; i < PATIENCE_MS && get32(regs, STATUS) == IN_PROGRESS; i++)
		usleep(1000);
	check(get32(regs, STATUS) == 0, what);
}

/* memory to the device and back, to the second half of what is mapped */
static void there_and_back(volatile uint8_t *regs, uint8_t *memory, uint32_t in, uint32_t out, unsigned seed)
{
	pattern(memory, BYTES, seed);
	memset(memory + BYTES, 0, BYTES);
	copy(regs, in, IOVA, 0x1000 * seed, "the device has read memory");
	copy(regs, out, IOVA + BYTES, 0x1000 * seed, "the device has written memory");
	check(memcmp(memory, memory + BYTES, BYTES) == 0, "65536 bytes came back as they were sent");
}

int testdev(const char *address)
{
	struct device device = open_device(address);
	volatile uint8_t *memory_bar = map_bar(&device, VFIO_PCI_BAR0_REGION_INDEX);
	volatile uint8_t *mapped_bar = map_bar(&device, VFIO_PCI_BAR1_REGION_INDEX);
	volatile uint8_t *regs = map_bar(&device, VFIO_PCI_BAR2_REGION_INDEX);
	int events[VECTORS];
	uint8_t *memory;
	unsigned i;

	put32(memory_bar, 0xffffc, 0xcafef00d);
	put64(memory_bar, 0, 0x1122334455667788);
	check(get32(memory_bar, 0xffffc) == 0xcafef00d, "BAR 0 keeps what is written to its end");
	check(get32(memory_bar, 4) == 0x11223344, "and the upper half of what is written to its start");
	for (i = 0; i < sizeof(edges) / sizeof(edges[0]); i++) {
		put32(mapped_bar, edges[i] - 4, 0xa0000000 + i);
		put32(mapped_bar, edges[i], 0xb0000000 + i);
	}
	for (i = 0; i < sizeof(edges) / sizeof(edges[0]); i++) {
		check(get32(mapped_bar, edges[i] - 4) == 0xa0000000 + i && get32(mapped_bar, edges[i]) == 0xb0000000 + i,
		      "BAR 1 keeps what is written on both sides of an edge of its mapped parts");
	}

	route_irqs(&device, VFIO_PCI_MSIX_IRQ_INDEX, events, VECTORS);
	for (i = VECTORS; i-- > 0;) {
		put32(regs, VECTOR, i);
		put32(regs, COMMAND, SIGNAL);
		check(interrupts(events[i]) == 1, "the vector that is signalled arrives");
	}

	memory = dma_map(&device, IOVA, 2 * BYTES);
	printf("the device knows of %u regions of memory\n", get32(regs, DMA_REGIONS));
	there_and_back(regs, memory, READ_MEMORY, WRITE_MEMORY, 1);
	there_and_back(regs, memory, READ_BY_MESSAGE, WRITE_BY_MESSAGE, 2);
	dma_unmap(&device, IOVA, memory, 2 * BYTES);
	put64(regs, ADDRESS, IOVA);
	put32(regs, COMMAND, READ_MEMORY);
	check(get32(regs, STATUS) != 0, "memory that was taken away is not read");
	return 0;
}
