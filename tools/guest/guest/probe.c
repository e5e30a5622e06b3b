/*
 * What the guest's shell can not do: it drives a device by VFIO, and draws into a BAR. Static, no library but libc.
 *
 *     probe edu 0000:00:12.0            the educational device, bound to vfio-pci: registers, interrupts, DMA
 *     probe fill 0000:00:13.0 BAR OFFSET LENGTH VALUE     32-bit words of a memory BAR, by sysfs's resource file
 *     probe sum 0000:00:13.0 BAR OFFSET LENGTH            the sum of these words, modulo 2^32
 *
 * A step that is not as it should be is printed with the word FAILED, and the exit status is 1.
 */
#define _GNU_SOURCE
#include <errno.h>
#include <fcntl.h>
#include <linux/vfio.h>
#include <poll.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/eventfd.h>
#include <sys/ioctl.h>
#include <sys/mman.h>
#include <unistd.h>

/* registers of the educational device, offsets in BAR 0 */
enum {
	EDU_ID = 0x00,
	EDU_LIVENESS = 0x04,
	EDU_FACTORIAL = 0x08,
	EDU_STATUS = 0x20,
	EDU_IRQ_STATUS = 0x24,
	EDU_IRQ_RAISE = 0x60,
	EDU_IRQ_ACK = 0x64,
	EDU_DMA_SRC = 0x80,
	EDU_DMA_DST = 0x88,
	EDU_DMA_COUNT = 0x90,
	EDU_DMA_CMD = 0x98,
};
#define EDU_STATUS_COMPUTING 0x01u
#define EDU_DMA_START 0x1u
#define EDU_DMA_TO_RAM 0x2u
#define EDU_DMA_IRQ 0x4u
#define EDU_DMA_DONE 0x100u /* in the interrupt status */
#define EDU_BUFFER 0x40000u /* the device's own memory, as its DMA engine addresses it */

#define DMA_IOVA 0x100000u /* the device reaches 28 bits */
#define DMA_BYTES 4096u
#define PATIENCE_MS 30000

static volatile uint8_t *bar;

static void die(const char *what)
{
	printf("FAILED: %s: %s\n", what, strerror(errno));
	exit(1);
}

static void check(int ok, const char *what)
{
	printf("%s: %s\n", ok ? "ok" : "FAILED", what);
	if (!ok)
		exit(1);
}

static uint32_t get(unsigned offset)
{
	return *(volatile uint32_t *)(bar + offset);
}

static void put(unsigned offset, uint32_t value)
{
	*(volatile uint32_t *)(bar + offset) = value;
}

static void put64(unsigned offset, uint64_t value)
{
	*(volatile uint64_t *)(bar + offset) = value;
}

/* the group that the device is in, from sysfs */
static int group_of(const char *address)
{
	char link[128], target[256];
	ssize_t length;

	snprintf(link, sizeof(link), "/sys/bus/pci/devices/%s/iommu_group", address);
	length = readlink(link, target, sizeof(target) - 1);
	if (length < 0)
		die(link);
	target[length] = 0;
	return atoi(strrchr(target, '/') + 1);
}

/* waits for an interrupt; what has been counted since the last one */
static uint64_t interrupts(int event)
{
	struct pollfd one = { .fd = event, .events = POLLIN };
	uint64_t count = 0;

	if (poll(&one, 1, PATIENCE_MS) == 1 && read(event, &count, sizeof(count)) != sizeof(count))
		die("eventfd");
	return count;
}

static void dma(int event, uint64_t from, uint64_t to, uint32_t command, const char *what)
{
	put64(EDU_DMA_SRC, from);
	put64(EDU_DMA_DST, to);
	put64(EDU_DMA_COUNT, DMA_BYTES);
	put(EDU_DMA_CMD, EDU_DMA_START | EDU_DMA_IRQ | command);
	check(interrupts(event) == 1, what);
	check(get(EDU_IRQ_STATUS) == EDU_DMA_DONE, "the interrupt status names the DMA");
	put(EDU_IRQ_ACK, EDU_DMA_DONE);
	check(get(EDU_IRQ_STATUS) == 0, "and is 0 once acknowledged");
}

static int edu(const char *address)
{
	struct vfio_region_info region = { .argsz = sizeof(region), .index = VFIO_PCI_BAR0_REGION_INDEX };
	struct vfio_region_info config = { .argsz = sizeof(config), .index = VFIO_PCI_CONFIG_REGION_INDEX };
	struct vfio_iommu_type1_dma_map map = { .argsz = sizeof(map) };
	struct vfio_iommu_type1_dma_unmap unmap = { .argsz = sizeof(unmap) };
	struct {
		struct vfio_irq_set set;
		int32_t fd;
	} irqs = { 0 };
	char path[64];
	int container, group, device, event;
	uint16_t command;
	uint8_t *memory;
	unsigned i, rounds;

	container = open("/dev/vfio/vfio", O_RDWR);
	if (container < 0)
		die("/dev/vfio/vfio");
	snprintf(path, sizeof(path), "/dev/vfio/%d", group_of(address));
	group = open(path, O_RDWR);
	if (group < 0)
		die(path);
	if (ioctl(group, VFIO_GROUP_SET_CONTAINER, &container) || ioctl(container, VFIO_SET_IOMMU, VFIO_TYPE1v2_IOMMU))
		die("container");
	device = ioctl(group, VFIO_GROUP_GET_DEVICE_FD, address);
	if (device < 0)
		die("VFIO_GROUP_GET_DEVICE_FD");
	if (ioctl(device, VFIO_DEVICE_GET_REGION_INFO, &region) || ioctl(device, VFIO_DEVICE_GET_REGION_INFO, &config))
		die("VFIO_DEVICE_GET_REGION_INFO");
	bar = mmap(NULL, region.size, PROT_READ | PROT_WRITE, MAP_SHARED, device, region.offset);
	if (bar == MAP_FAILED)
		die("mmap of BAR 0");
	/* memory space and bus master */
	if (pread(device, &command, 2, config.offset + 4) != 2)
		die("read of the command register");
	command |= 0x6;
	if (pwrite(device, &command, 2, config.offset + 4) != 2)
		die("write of the command register");

	printf("identification %08x\n", get(EDU_ID));
	check((get(EDU_ID) & 0xff) == 0xed, "it is the educational device");
	put(EDU_LIVENESS, 0x12345678);
	check(get(EDU_LIVENESS) == ~0x12345678u, "it inverts what is written to the liveness register");
	put(EDU_FACTORIAL, 10);
	for (i = 0; i < PATIENCE_MS && (get(EDU_STATUS) & EDU_STATUS_COMPUTING); i++)
		usleep(1000);
	check(get(EDU_FACTORIAL) == 3628800, "the factorial of 10 is 3628800");

	event = eventfd(0, EFD_CLOEXEC);
	irqs.set.argsz = sizeof(irqs);
	irqs.set.flags = VFIO_IRQ_SET_DATA_EVENTFD | VFIO_IRQ_SET_ACTION_TRIGGER;
	irqs.set.index = VFIO_PCI_MSI_IRQ_INDEX;
	irqs.set.count = 1;
	irqs.fd = event;
	if (event < 0 || ioctl(device, VFIO_DEVICE_SET_IRQS, &irqs))
		die("MSI");
	put(EDU_IRQ_RAISE, 0x2);
	check(interrupts(event) == 1, "an MSI arrives when one is raised");
	check(get(EDU_IRQ_STATUS) == 0x2, "the interrupt status is what was raised");
	put(EDU_IRQ_ACK, 0x2);

	memory = mmap(NULL, 2 * DMA_BYTES, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
	if (memory == MAP_FAILED)
		die("memory");
	map.flags = VFIO_DMA_MAP_FLAG_READ | VFIO_DMA_MAP_FLAG_WRITE;
	map.vaddr = (uintptr_t)memory;
	map.iova = DMA_IOVA;
	map.size = 2 * DMA_BYTES;
	unmap.iova = map.iova;
	unmap.size = map.size;
	for (rounds = 1; rounds <= 2; rounds++) {
		if (ioctl(container, VFIO_IOMMU_MAP_DMA, &map))
			die("VFIO_IOMMU_MAP_DMA");
		for (i = 0; i < DMA_BYTES; i++)
			memory[i] = i * 7 + (i >> 8) + rounds;
		memset(memory + DMA_BYTES, 0, DMA_BYTES);
		dma(event, DMA_IOVA, EDU_BUFFER, 0, "an MSI tells of the end of DMA from memory");
		dma(event, EDU_BUFFER, DMA_IOVA + DMA_BYTES, EDU_DMA_TO_RAM, "an MSI tells of the end of DMA to memory");
		check(memcmp(memory, memory + DMA_BYTES, DMA_BYTES) == 0, "4096 bytes came back as they were sent");
		if (ioctl(container, VFIO_IOMMU_UNMAP_DMA, &unmap))
			die("VFIO_IOMMU_UNMAP_DMA");
	}
	return 0;
}

static volatile uint32_t *words_of(const char *address, const char *number, const char *offset, const char *length)
{
	char path[128];
	size_t at = strtoul(offset, NULL, 0), end = at + strtoul(length, NULL, 0);
	uint8_t *memory;
	int file;

	snprintf(path, sizeof(path), "/sys/bus/pci/devices/%s/resource%s", address, number);
	file = open(path, O_RDWR | O_SYNC);
	if (file < 0)
		die(path);
	memory = mmap(NULL, (end + 4095) & ~4095ul, PROT_READ | PROT_WRITE, MAP_SHARED, file, 0);
	if (memory == MAP_FAILED)
		die("mmap");
	return (volatile uint32_t *)(memory + at);
}

int main(int argc, char **argv)
{
	setvbuf(stdout, NULL, _IOLBF, 0);
	if (argc == 3 && !strcmp(argv[1], "edu"))
		return edu(argv[2]);
	if (argc == 7 && !strcmp(argv[1], "fill")) {
		volatile uint32_t *words = words_of(argv[2], argv[3], argv[4], argv[5]);
		size_t i, count = strtoul(argv[5], NULL, 0) / 4;

		for (i = 0; i < count; i++)
			words[i] = strtoul(argv[6], NULL, 0);
		return 0;
	}
	if (argc == 6 && !strcmp(argv[1], "sum")) {
		volatile uint32_t *words = words_of(argv[2], argv[3], argv[4], argv[5]);
		size_t i, count = strtoul(argv[5], NULL, 0) / 4;
		uint32_t sum = 0;

		for (i = 0; i < count; i++)
			sum += words[i];
		printf("%08x\n", sum);
		return 0;
	}
	fprintf(stderr, "usage: probe edu ADDRESS | fill ADDRESS BAR OFFSET LENGTH VALUE | sum ADDRESS BAR OFFSET LENGTH\n");
	return 2;
}
