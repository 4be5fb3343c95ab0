import socket,re,threading,sys,os,time,random
# raw server in the watched cgroup: answers with prepared bytes, in prepared segments
SCORE=re.compile(rb'X-Energy-Score: \d+\r\n')
def serve(sock, plan):
    c,_=sock.accept(); c.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY,1)
    if plan.get('sndbuf'): c.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, plan['sndbuf'])
    want=plan['requests']; got=b''
    while got.count(b'\r\n\r\n')<want:
        if plan.get('vectors'):
            v=[bytearray(k) for k in plan['vectors']]; k=os.readv(c.fileno(),v) if plan.get('readv') else c.recvmsg_into(v)[0]; d=b''.join(v)[:k]
        else: d=c.recv(plan.get('recv',65536))
        if not d: break
        got+=d
    data=plan['bytes']; i=0
    if plan.get('nonblock'): c.setblocking(False)
    import select
    seg=plan['segment']
    while i<len(data):
        try: i+=c.send(data[i:i+seg])
        except BlockingIOError: select.select([],[c],[])
    if plan.get('nonblock'): c.setblocking(True)
    c.close()
def client(port, plan):
    s=socket.create_connection(('127.0.0.1',port),timeout=10)
    if plan.get('rcvbuf'): s.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, plan['rcvbuf'])
    req=plan['request']; cs=plan.get('csegment',len(req))
    for i in range(0,len(req),cs): s.sendall(req[i:i+cs]); 
    out=[]
    while True:
        if plan.get('slow'): time.sleep(plan['slow'])
        d=s.recv(plan.get('read',65536))
        if not d: break
        out.append(d)
    return b''.join(out)
def run(name, **plan):
    l=socket.socket(); l.setsockopt(socket.SOL_SOCKET,socket.SO_REUSEADDR,1); l.bind(('127.0.0.1',0)); l.listen()
    t=threading.Thread(target=serve,args=(l,plan)); t.start()
    got=client(l.getsockname()[1],plan); t.join(); l.close()
    n=len(SCORE.findall(got)); stripped=SCORE.sub(b'',got)
    ok=stripped==plan['bytes'] and n in plan['scores'] if isinstance(plan['scores'],range) else stripped==plan['bytes'] and n==plan['scores']
    print('ok  ' if ok else 'FAIL',name,'scores',n,'of',plan['scores'],'bytes',len(stripped),len(plan['bytes']),flush=True)
    if not ok: print(got[:300])
def resp(body,extra=b''): return b'HTTP/1.1 200 OK\r\nDate: Sat, 21 Nov 2026 14:46:00 GMT\r\nServer: x\r\nContent-Type: text/html\r\n'+extra+b'Content-Length: %d\r\n\r\n'%len(body)+body
def chunked(parts): return b'HTTP/1.1 200 OK\r\nDate: Sat, 21 Nov 2026 14:46:00 GMT\r\nTransfer-Encoding: chunked\r\n\r\n'+b''.join(b'%x\r\n%s\r\n'%(len(p),p) for p in parts)+b'0\r\n\r\n'
G=b'GET /a HTTP/1.1\r\nHost: x\r\nUser-Agent: something long to skip over\r\n\r\n'
body=os.urandom(50000)
for seg in (1,2,3,7,17,1000,10**6):
    b=resp(b'HTTP/1.1 200 OK\r\n\r\n')+chunked([b'a',b'HTTP/1.1 200 OK\r\n\r\n'*3])+resp(b'')+b'HTTP/1.1 100 Continue\r\n\r\n'+resp(b'x'*100)
    run('pipelined segment %d'%seg, request=G*4, requests=4, bytes=b, segment=seg, scores=4)
for cs in (1,5): run('request cut %d'%cs, request=G*2, requests=2, csegment=cs, recv=3, bytes=resp(b'abc')*2, segment=10**6, scores=2)
for rv in (0,1):
    for v in ((3,20,5,7,500),(1,),(1,1,1,1,1,1,1,65536)): run('readv %d %s'%(rv,v), request=G*3, requests=3, vectors=v, readv=rv, bytes=resp(b'abc')*3, segment=10**6, scores=3)
run('long head', request=b'GET / HTTP/1.1\r\nX: '+b'y'*60000+b'\r\n\r\n', requests=1, bytes=b'HTTP/1.1 200 OK\r\nY: '+b'z'*40000+b'\r\nContent-Length: 3\r\n\r\nabc', segment=10**6, scores=1)
run('until close', request=G, requests=1, bytes=b'HTTP/1.0 200 OK\r\n\r\n'+body, segment=5000, scores=1)
run('upgrade', request=G, requests=1, bytes=b'HTTP/1.1 101 Switching\r\n\r\nHTTP/1.1 200 OK\r\n\r\n'+body, segment=5000, scores=0)
run('h2', request=b'PRI * HTTP/2.0\r\n\r\n', requests=1, bytes=body, segment=5000, scores=0)
run('forged-not', request=G, requests=1, bytes=b'hello '+body, segment=5000, scores=0)
for nb in (False,True):
    run('slow reader nonblock=%s'%nb, request=G*6, requests=6, bytes=resp(body)*2+chunked([body[:5000]]*20)+resp(body)*3, segment=10**6, nonblock=nb, sndbuf=8192, rcvbuf=4096, read=3000, slow=0.0002, scores=range(1,7))
    run('slow reader, one request nonblock=%s'%nb, request=G, requests=1, bytes=chunked([body[:5000]]*20), segment=10**6, nonblock=nb, sndbuf=8192, rcvbuf=4096, read=3000, slow=0.0002, scores=1)
    run('slow reader small segments nonblock=%s'%nb, request=G*20, requests=20, bytes=resp(body[:700])*20, segment=333, nonblock=nb, sndbuf=2048, rcvbuf=2048, read=300, slow=0.0005, scores=range(1,21))
    run('big nonblock=%s'%nb, request=G*2, requests=2, bytes=resp(body*100)*2, segment=10**7, nonblock=nb, scores=2)
