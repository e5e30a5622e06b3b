/* VFIO as a program uses it: container, group, device, interrupts, DMA. */
#define _GNU_SOURCE
#include <errno.h>
#include <fcntl.h>
#include <linux/vfio.h>
#include <poll.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/eventfd.h>
#include <sys/ioctl.h>
#include <sys/mman.h>
#include <unistd.h>

#include "probe.h"

#define PATIENCE_MS 30000
#define MOST_VECTORS 32

/* the command register of PCI: memory space, bus master */
#define COMMAND_OFFSET 4
#define COMMAND_BITS 0x6

void die(const char *what)
{
	printf("FAILED: %s: %s\n", what, strerror(errno));
	exit(1);
}

void check(int ok, const char *what)
{
	printf("%s: %s\n", ok ? "ok" : "FAILED", what);
	if (!ok)
		exit(1);
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

static struct vfio_region_info region_info(const struct device *device, uint32_t index)
{
	struct vfio_region_info info = { .argsz = sizeof(info), .index = index };

	if (ioctl(device->fd, VFIO_DEVICE_GET_REGION_INFO, &info))
		die("VFIO_DEVICE_GET_REGION_INFO");
	return info;
}

struct device open_device(const char *address)
{
	struct vfio_region_info config;
	struct device device;
	uint16_t command;
	char path[64];

	device.container = open("/dev/vfio/vfio", O_RDWR);
	if (device.container < 0)
		die("/dev/vfio/vfio");
	snprintf(path, sizeof(path), "/dev/vfio/%d", group_of(address));
	device.group = open(path, O_RDWR);
	if (device.group < 0)
		die(path);
	if (ioctl(device.group, VFIO_GROUP_SET_CONTAINER, &device.container))
		die("VFIO_GROUP_SET_CONTAINER");
	if (ioctl(device.container, VFIO_SET_IOMMU, VFIO_TYPE1v2_IOMMU))
		die("VFIO_SET_IOMMU");
	device.fd = ioctl(device.group, VFIO_GROUP_GET_DEVICE_FD, address);
	if (device.fd < 0)
		die("VFIO_GROUP_GET_DEVICE_FD");
	config = region_info(&device, VFIO_PCI_CONFIG_REGION_INDEX);
	if (pread(device.fd, &command, sizeof(command), config.offset + COMMAND_OFFSET) != sizeof(command))
		die("read of the command register");
	command |= COMMAND_BITS;
	if (pwrite(device.fd, &command, sizeof(command), config.offset + COMMAND_OFFSET) != sizeof(command))
		die("write of the command register");
	return device;
}

volatile uint8_t *map_bar(const struct device *device, uint32_t index)
{
	struct vfio_region_info info = region_info(device, index);
	void *bar = mmap(NULL, info.size, PROT_READ | PROT_WRITE, MAP_SHARED, device->fd, info.offset);

	if (bar == MAP_FAILED)
		die("mmap of a BAR");
	return bar;
}

void route_irqs(const struct device *device, uint32_t index, int *events, uint32_t count)
{
	struct {
		struct vfio_irq_set set;
		int32_t fds[MOST_VECTORS];
	} irqs = { .set = { .index = index, .count = count } };
	uint32_t i;

	for (i = 0; i < count; i++) {
		events[i] = eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK);
		if (events[i] < 0)
			die("eventfd");
		irqs.fds[i] = events[i];
	}
	irqs.set.argsz = sizeof(irqs.set) + count * sizeof(irqs.fds[0]);
	irqs.set.flags = VFIO_IRQ_SET_DATA_EVENTFD | VFIO_IRQ_SET_ACTION_TRIGGER;
	if (ioctl(device->fd, VFIO_DEVICE_SET_IRQS, &irqs))
		die("VFIO_DEVICE_SET_IRQS");
}

uint64_t interrupts(int event)
{
	struct pollfd one = { .fd = event, .events = POLLIN };
	uint64_t count = 0;

	if (poll(&one, 1, PATIENCE_MS) == 1 && read(event, &count, sizeof(count)) != sizeof(count))
		die("eventfd");
	return count;
}

uint8_t *dma_map(const struct device *device, uint64_t iova, size_t size)
{
	struct vfio_iommu_type1_dma_map map = { .argsz = sizeof(map), .iova = iova, .size = size };
	uint8_t *memory = mmap(NULL, size, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);

	if (memory == MAP_FAILED)
		die("memory");
	map.flags = VFIO_DMA_MAP_FLAG_READ | VFIO_DMA_MAP_FLAG_WRITE;
	map.vaddr = (uintptr_t)memory;
	if (ioctl(device->container, VFIO_IOMMU_MAP_DMA, &map))
		die("VFIO_IOMMU_MAP_DMA");
	return memory;
}

void dma_unmap(const struct device *device, uint64_t iova, uint8_t *memory, size_t size)
{
	struct vfio_iommu_type1_dma_unmap unmap = { .argsz = sizeof(unmap), .iova = iova, .size = size };

	if (ioctl(device->container, VFIO_IOMMU_UNMAP_DMA, &unmap))
		die("VFIO_IOMMU_UNMAP_DMA");
	munmap(memory, size);
}

void pattern(uint8_t *memory, size_t size, unsigned seed)
{
	size_t i;

	for (i = 0; i < size; i++)
		memory[i] = i * 7 + (i >> 8) + seed;
}

uint32_t get32(volatile uint8_t *bar, unsigned offset)
{
	return *(volatile uint32_t *)(bar + offset);
}

void put32(volatile uint8_t *bar, unsigned offset, uint32_t value)
{
	*(volatile uint32_t *)(bar + offset) = value;
}

void put64(volatile uint8_t *bar, unsigned offset, uint64_t value)
{
	*(volatile uint64_t *)(bar + offset) = value;
}
