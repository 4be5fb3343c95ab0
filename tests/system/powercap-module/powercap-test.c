// SPDX-License-Identifier: GPL-2.0-only
/*
 * Energy counters for a virtual machine, for tests: a control type intel-rapl
 * with the zones package-0 and, below it, dram, as the driver of the hardware
 * registers them. Power follows the machine's real load,
 *
 *     energy = static power x time + busy power x time during which CPUs were busy
 *
 * summed over the CPUs, and the counters wrap as those of the hardware do. The
 * powers may be changed while it is loaded, in /sys/module/powercap_test/parameters.
 */

#include <linux/cpumask.h>
#include <linux/err.h>
#include <linux/ktime.h>
#include <linux/module.h>
#include <linux/mutex.h>
#include <linux/powercap.h>
#include <linux/tick.h>

/* Up to which the counters count: 32 bits of 61.035 uJ, of server DRAM 15.3 uJ. */
static unsigned long long max_energy_range_uj = 262143328850;
module_param(max_energy_range_uj, ullong, 0444);
static unsigned long long dram_max_energy_range_uj = 65712999613;
module_param(dram_max_energy_range_uj, ullong, 0444);

static unsigned int static_mw = 20000, busy_mw = 30000;
module_param(static_mw, uint, 0644);
module_param(busy_mw, uint, 0644);
MODULE_PARM_DESC(busy_mw, "of each CPU");
static unsigned int dram_static_mw = 3000, dram_busy_mw = 4000;
module_param(dram_static_mw, uint, 0644);
module_param(dram_busy_mw, uint, 0644);

static struct counter {
	const unsigned long long *max_uj;
	const unsigned int *static_mw, *busy_mw;
	u64 energy_pj; /* of which a u64 holds 18 MJ: days */
	bool registered;
	struct powercap_zone zone;
} package = { &max_energy_range_uj, &static_mw, &busy_mw },
  dram = { &dram_max_energy_range_uj, &dram_static_mw, &dram_busy_mw };

/* Of the counters and of what follows. As those of the hardware, they count from the machine's
 * start on, whether or not a driver is loaded. */
static DEFINE_MUTEX(lock);
static u64 last_ns;
static u64 last_idle_us[NR_CPUS];

static struct powercap_control_type *control_type;

/* The CPUs' busy time during the last passed_ns, nanoseconds. One that is offline is idle. */
static u64 take_busy_ns(u64 passed_ns)
{
	u64 sum_ns = 0;
	int cpu;

	for_each_online_cpu (cpu) {
		u64 idle_us = get_cpu_idle_time_us(cpu, NULL) + get_cpu_iowait_time_us(cpu, NULL);
		s64 busy_ns = passed_ns - (idle_us - last_idle_us[cpu]) * NSEC_PER_USEC;

		/* The kernel does not promise that idle time never steps a little. */
		sum_ns += clamp_t(s64, busy_ns, 0, passed_ns);
		last_idle_us[cpu] = idle_us;
	}
	return sum_ns;
}

static void draw(struct counter *counter, u64 passed_ns, u64 busy_ns)
{
	counter->energy_pj +=
		READ_ONCE(*counter->static_mw) * passed_ns + READ_ONCE(*counter->busy_mw) * busy_ns;
}

static void update(void)
{
	u64 now_ns = ktime_get_ns();
	u64 passed_ns = now_ns - last_ns;
	u64 busy_ns = take_busy_ns(passed_ns);

	last_ns = now_ns;
	draw(&package, passed_ns, busy_ns);
	draw(&dram, passed_ns, busy_ns);
}

static int get_energy_uj(struct powercap_zone *zone, u64 *energy_uj)
{
	struct counter *counter = container_of(zone, struct counter, zone);

	mutex_lock(&lock);
	update();
	*energy_uj = counter->energy_pj / 1000000 % *counter->max_uj;
	mutex_unlock(&lock);
	return 0;
}

static int get_max_energy_range_uj(struct powercap_zone *zone, u64 *energy_uj)
{
	struct counter *counter = container_of(zone, struct counter, zone);

	*energy_uj = *counter->max_uj;
	return 0;
}

static int get_enable(struct powercap_zone *zone, bool *enabled)
{
	*enabled = true;
	return 0;
}

static int set_enable(struct powercap_zone *zone, bool enabled)
{
	return -EINVAL;
}

/* Zones that are not powercap's own memory must have one. */
static int release(struct powercap_zone *zone)
{
	return 0;
}

static const struct powercap_zone_ops zone_ops = {
	.get_energy_uj = get_energy_uj,
	.get_max_energy_range_uj = get_max_energy_range_uj,
	.get_enable = get_enable,
	.set_enable = set_enable,
	.release = release,
};

/* powercap registers no zone without a constraint; this one constrains nothing. */
static int get_constraint(struct powercap_zone *zone, int id, u64 *value)
{
	*value = 0;
	return 0;
}

static int set_constraint(struct powercap_zone *zone, int id, u64 value)
{
	return -EINVAL;
}

static const char *get_constraint_name(struct powercap_zone *zone, int id)
{
	return "long_term";
}

static const struct powercap_zone_constraint_ops constraint_ops = {
	.get_power_limit_uw = get_constraint,
	.set_power_limit_uw = set_constraint,
	.get_time_window_us = get_constraint,
	.set_time_window_us = set_constraint,
	.get_name = get_constraint_name,
};

static int register_zone(struct counter *counter, const char *name, struct counter *parent)
{
	struct powercap_zone *zone = powercap_register_zone(&counter->zone, control_type, name,
							    parent ? &parent->zone : NULL,
							    &zone_ops, 1, &constraint_ops);

	counter->registered = !IS_ERR(zone);
	return PTR_ERR_OR_ZERO(zone);
}

static void unregister_zones(void)
{
	if (dram.registered)
		powercap_unregister_zone(control_type, &dram.zone);
	if (package.registered)
		powercap_unregister_zone(control_type, &package.zone);
	powercap_unregister_control_type(control_type);
}

static int __init powercap_test_init(void)
{
	int ret;

	control_type = powercap_register_control_type(NULL, "intel-rapl", NULL);
	if (IS_ERR(control_type))
		return PTR_ERR(control_type);
	ret = register_zone(&package, "package-0", NULL);
	if (ret == 0)
		ret = register_zone(&dram, "dram", &package);
	if (ret < 0)
		unregister_zones();
	return ret;
}

static void __exit powercap_test_exit(void)
{
	unregister_zones();
}

module_init(powercap_test_init);
module_exit(powercap_test_exit);
MODULE_DESCRIPTION("Energy counters of a virtual machine, for tests");
MODULE_LICENSE("GPL");
