/* SPDX-License-Identifier: LGPL-2.1-or-later */
#include "unit.h"

#include <math.h>
#include <stdio.h>
#include <stdlib.h>

#include "attribution/baseline_learner.h"
#include "util/clock.h"

/* A simulated zone: its load walks between two bounds, its power follows. */
struct host {
    double static_w;
    double dynamic_w;        /* at full load */
    double (*curve)(double); /* of load, 0 to 1, to the part of dynamic_w */
    double load_min, load_max;
    double noise;   /* of the power, relative, white */
    double spikes;  /* probability of a sample with much more power than its load explains */
    double drift_w; /* added to static_w per second */
    int levels;     /* 0: the load takes any value; else so many */
    double load;
    double seconds;
    double lowest_w;
    uint64_t random;
};

/* splitmix64 (Steele, Lea, Flood, OOPSLA 2014): the same traces in every run. */
static uint64_t next_random(struct host *host)
{
    uint64_t z = host->random += UINT64_C(0x9e3779b97f4a7c15);

    z = (z ^ (z >> 30)) * UINT64_C(0xbf58476d1ce4e5b9);
    z = (z ^ (z >> 27)) * UINT64_C(0x94d049bb133111eb);
    return z ^ (z >> 31);
}

static double uniform(struct host *host)
{
    return (double)(next_random(host) >> 11) / (double)(UINT64_C(1) << 53);
}

static double gaussian(struct host *host)
{
    double sum = 0;

    for (int i = 0; i < 12; i++)
        sum += uniform(host);
    return sum - 6;
}
double ANTI;
/* The load of a host with many guests: a slow walk with jumps. */
static double next_load(struct host *host)
{
    double range = host->load_max - host->load_min;
    if (uniform(host) < 0.02)
        host->load = host->load_min + range * uniform(host);
    host->load += 0.05 * range * gaussian(host);
    host->load = fmin(fmax(host->load, host->load_min), host->load_max);
    if (host->levels)
        return host->load_min + range * floor((host->load-host->load_min)/range * host->levels * .9999) / (host->levels - 1);
    return host->load;
}
static double c10(double u){return u;}
static double c98(double u){return pow(u,.98);}
static double c90(double u){return pow(u,.9);}
static double c80(double u){return pow(u,.8);}
static double c115(double u){return pow(u,1.15);}
static double c130(double u){return pow(u,1.3);}
static double smt(double u){return u<.5?u*1.3:.65+(u-.5)*.7;}
static double smt2(double u){return u<.5?u*1.6:.8+(u-.5)*.4;}
static double dvfs(double u){double f=u<.4?.7:u>.8?1:.7+(u-.4)/.4*.3; return u*f*f;}
static double steps(double u){double f=u<.3?.8:u<.5?.86:u<.7?.93:1; return u*f*f;}
static double turbo(double u){double f=u<.3?1:1-(u-.3)*.25; return u*f*f/(.825*.825);}

int main(int argc,char**argv)
{
  struct {const char*n;double(*f)(double);} cs[]={{"1.0",c10},{".98",c98},{".9",c90},{".8",c80},{"1.15",c115},{"1.3",c130},{"smt",smt},{"smt2",smt2},{"dvfs",dvfs},{"steps",steps},{"turbo",turbo}};
  double SD[][2]={{40,80},{20,100},{60,60}};
  for(int noise=0;noise<3;noise++) for(int sd=0;sd<3;sd++) {
   printf("noise %.3f S %g D %g\n", noise*.01, SD[sd][0],SD[sd][1]);
   for(unsigned c=0;c<ELEMENTS(cs);c++){
    double worst=0,mean=0,unc=0; int lr=0, tot=8;
    for(int seed=0;seed<tot;seed++){
     struct host h={.static_w=SD[sd][0],.dynamic_w=SD[sd][1],.curve=cs[c].f,.load_min=argc>1?atof(argv[1]):.2,.load_max=argc>2?atof(argv[2]):.9,.levels=argc>3?atoi(argv[3]):0,.noise=noise*.01,.load=.5,.random=seed*77+1};
     struct baseline_learner*l; baseline_learner_new(&l);
     for(int t=0;t<600;t++){
       double u=next_load(&h); double p=(h.static_w+h.dynamic_w*h.curve(u))*(1+h.noise*gaussian(&h));
       baseline_learner_add(l,(uint64_t)(p*1e6),NSEC_PER_SEC,u*32);
     }
     struct baseline_estimate e=baseline_learner_estimate(l);
     double err=(double)e.power_uw/1e6/h.static_w-1; if(fabs(err)>fabs(worst))worst=err; mean+=err/tot; unc+=(double)e.uncertainty_uw/1e6/h.static_w/tot; lr+=e.state==BASELINE_LEARNED;
     baseline_learner_free(l);
    }
    printf("  %-6s mean %+.3f worst %+.3f unc %.3f learned %d\n",cs[c].n,mean,worst,unc,lr);
   }
  }
}
