import sys,time
sys.path.insert(0,'.')
from tests.unit.roles.pet_set.agent_world import *
def schedule(seed, pets=2):
    w=World(seed,pets); r=w.random
    w.run(6)
    if not w.settled(): raise Violation(f"no start {w.log} {[p.decision.reasons for p in w.pets]}")
    for _ in range(r.randint(1,4)):
        pet=r.choice(w.pets); s=r.choice((0.3,1.0,2.5,4.0,8.0))
        f=r.choice(("kill","kill","kill-all","pause","agent","api","api-all","cut","long-agent"))
        w.log.append(f"{w.now_s:.2f} FAULT {f} {pet.name} {s}")
        if f=="kill": w.kill(pet,s)
        elif f=="kill-all":
            for p in w.pets: w.kill(p, r.choice((0.3,1,4)))
        elif f=="pause": pet.mysql.paused=True
        elif f=="agent": w.restart_agent(pet, 0.5)
        elif f=="long-agent": w.restart_agent(pet, s)
        elif f=="api": pet.api_cut=True
        elif f=="api-all":
            for p in w.pets: p.api_cut=True
        elif f=="cut": w.peer_cut=True
        w.run(r.choice((s, s, r.random()*s)))
        if r.random()<.6:
            for p in w.pets: p.mysql.paused=False; p.api_cut=False
            w.peer_cut=False
            w.run(r.choice((0.2,1,4)))
    for p in w.pets: p.mysql.paused=False; p.api_cut=False
    w.peer_cut=False
    w.log.append(f"{w.now_s:.2f} END")
    for i in range(400):
        w.step()
        if i>160 and w.settled(): break
    else: raise Violation("not settled")
    for i in range(40): w.step(write=False)
    hs=[p.mysql.executed for p in w.pets]
    if not w.acked<=hs[0] or not w.acked<=hs[1]: raise Violation("lost")
    if hs[0]!=hs[1]: raise Violation("unequal")
    return w
if __name__=="__main__":
    t=time.time(); bad={}
    n=int(sys.argv[1]); start=int(sys.argv[2]) if len(sys.argv)>2 else 0
    for seed in range(start,start+n):
        world=[None]
        orig=World.__init__
        def init(self,*a,**k):
            orig(self,*a,**k); world[0]=self
        World.__init__=init
        try: schedule(seed)
        except Violation as v: bad.setdefault(str(v)[:60],[]).append(seed); last=world[0]; e=v
        finally: World.__init__=orig
        if bad and n==1:
            print("\n".join(last.log), e, last.now_s, last.record)
            for p in last.pets: print(p.name,p.mysql,p.decision.role if p.decision else None,p.decision.reasons if p.decision else None, p.server, p.memory, sep="\n  ")
    print(time.time()-t,{k:(len(v),v[:5]) for k,v in bad.items()})
