/* What the parts of the guest's program share: checks that are printed, and a device that is driven by VFIO. */
#ifndef PROBE_H
#define PROBE_H

#include <stddef.h>
#include <stdint.h>

/* Ends the program; the reason is errno's. */
void die(const char *what);

/* Prints whether something is as it should be, and ends the program if it is not. */
void check(int ok, const char *what);

/* An open device, alone in its group, in a container of its own. */
struct device {
	int container;
	int group;
	int fd;
};

/* Opens a device that is bound to vfio-pci, and lets it answer and be a bus master. */
struct device open_device(const char *address);

/* A BAR, mapped. */
volatile uint8_t *map_bar(const struct device *device, uint32_t index);

/* Routes the first vectors of an interrupt type to event counters, which are made here. */
void route_irqs(const struct device *device, uint32_t index, int *events, uint32_t count);

/* Waits for an interrupt, for a while; how many came since the last one. */
uint64_t interrupts(int event);

/* Fresh memory that the device reaches at an address. */
uint8_t *dma_map(const struct device *device, uint64_t iova, size_t size);
void dma_unmap(const struct device *device, uint64_t iova, uint8_t *memory, size_t size);

/* Memory that differs from place to place and from seed to seed. */
void pattern(uint8_t *memory, size_t size, unsigned seed);

uint32_t get32(volatile uint8_t *bar, unsigned offset);
void put32(volatile uint8_t *bar, unsigned offset, uint32_t value);
void put64(volatile uint8_t *bar, unsigned offset, uint64_t value);

/* The parts. */
int edu(const char *address);
int testdev(const char *address);
int fill(const char *address, const char *bar, const char *offset, const char *length, const char *value);
int sum(const char *address, const char *bar, const char *offset, const char *length);

#endif
