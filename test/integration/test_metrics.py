"""SetHandler tus-metrics: what happened, for Prometheus, whichever process it happened in."""
import re
import subprocess

import pytest

from testenv.httpd import endpoint
from testenv.http import Connection
from testenv.modules import load
from testenv.store import upload_id
from testenv.tus import Tus, assert_error, metadata
from testenv.util import program, wait_until

METRICS = '<Location /metrics>\n    SetHandler tus-metrics\n    TusStatus On\n</Location>\n'
METHODS = ('GET', 'HEAD', 'POST', 'PATCH', 'DELETE', 'OPTIONS', 'other')
UPLOADS = ('created', 'finished', 'terminated', 'expired', 'interrupted')
SAMPLE = re.compile(r'(\w+)(?:\{(.*)\})? (\d+(?:\.\d{6})?)')
HOOKS = ('pre-create', 'post-create', 'post-receive', 'pre-finish', 'post-finish', 'pre-terminate',
         'post-terminate')


def get(server, method='GET', url='/metrics', headers=()):
    with Connection(server.port) as conn:
        return conn.request(method, url, headers)


def text(server):
    answer = get(server)
    assert answer.status == 200, answer
    return answer.body.decode('ascii')


def parse(page):
    """{'name{labels}': value}; each of them stands there once."""
    samples = {}
    for line in page.splitlines():
        if line.startswith('#'):
            continue
        match = SAMPLE.fullmatch(line)
        assert match, line
        name = match[1] + (f'{{{match[2]}}}' if match[2] else '')
        assert name not in samples, f'twice: {name}'
        samples[name] = float(match[3]) if '.' in match[3] else int(match[3])
    return samples


def requests_of(method):
    return f'tus_requests_total{{method="{method}"}}'


def errors_of(code, status):
    return f'tus_errors_total{{code="{code}",status="{status}"}}'


def hook_of(name, hook):
    return f'{name}{{hook="{hook}"}}'


def wait_active(server, count):
    """So many are held: by requests, a moment longer than they count, or by the sweep."""
    wait_until(lambda: parse(text(server))['tus_uploads_active'] == count, f'{count} to be held')


class Growth:
    """What the counters have grown by since this was made."""

    def __init__(self, server):
        self.server = server
        self.before = parse(text(server))

    def all(self):
        return {name: value - self.before.get(name, 0)
                for name, value in parse(text(self.server)).items()
                if value != self.before.get(name, 0)}

    def of(self, name):
        return self.all().get(name, 0)

    def wait(self, name, value):
        wait_until(lambda: self.of(name) == value, f'{name} to grow by {value}, not {self.all()}')


def check(page):
    """promtool's verdict; it says nothing if there is nothing to say."""
    result = subprocess.run([program('promtool'), 'check', 'metrics'], input=page, text=True,
                            capture_output=True, check=False)
    assert (result.returncode, result.stdout + result.stderr) == (0, '')


@pytest.fixture(scope='module')
def tus(shared_httpd):
    server = shared_httpd()
    store = server.make_store()
    server.start(METRICS + endpoint('Location /files', store, 'TusMaxSize 1000'))
    return Tus(server, store=store)


# -- the page --------------------------------------------------------------------------------------

def test_everything_is_there_before_it_happens(httpd):
    server = httpd()
    server.start(METRICS + endpoint('Location /files', server.make_store()))
    page = text(server)
    check(page)
    samples = parse(page)
    assert not any(samples.values()), samples
    wanted = {requests_of(method) for method in METHODS}
    wanted |= {f'tus_uploads_{what}_total' for what in UPLOADS}
    wanted |= {'tus_bytes_received_total', 'tus_uploads_active', 'tus_uploads_parked'}
    wanted |= {errors_of('ERR_UPLOAD_NOT_FOUND', 404), errors_of('ERR_CHECKSUM_MISMATCH', 460)}
    wanted |= {hook_of(f'tus_hook_{what}_total', hook) for hook in HOOKS
               for what in ('invocations', 'errors', 'retries', 'given_up')}
    wanted |= {hook_of(f'tus_hook_duration_seconds_{what}', hook) for hook in HOOKS
               for what in ('sum', 'count')}
    wanted |= {'tus_hook_spool_events', 'tus_hook_spool_age_seconds'}
    assert wanted <= samples.keys()


def test_promtool_accepts_it(tus):
    tus.delete(tus.upload(b'hello'))
    tus.create('x')
    page = text(tus.server)
    check(page)
    for name in {re.split(r'[{ ]', line)[0] for line in page.splitlines() if line[0] != '#'}:
        name = re.sub('(?<=duration_seconds)_(bucket|sum|count)$', '', name)
        assert page.count(f'# HELP {name} ') == page.count(f'# TYPE {name} ') == 1


def test_headers(tus):
    answer = get(tus.server)
    assert answer.get('Content-Type') == 'text/plain; version=0.0.4; charset=utf-8'
    assert answer.get('Cache-Control') == 'no-store'
    head = get(tus.server, 'HEAD')
    assert (head.status, head.body) == (200, b'')
    assert head.get('Content-Type') == answer.get('Content-Type')


@pytest.mark.parametrize('method', ['POST', 'PUT', 'PATCH', 'DELETE', 'OPTIONS', 'PROPFIND', 'FOO'])
def test_other_methods(tus, method):
    tus.server.allow_log('AH00135|Invalid method')
    answer = get(tus.server, method)
    assert answer.status == 405, answer
    allowed = {name.strip() for name in answer.get('Allow').split(',')}
    assert allowed - {'TRACE'} == {'GET', 'HEAD'}, 'and TRACE, which httpd answers by itself'


def test_the_page_counts_nothing(tus):
    growth = Growth(tus.server)
    get(tus.server)
    get(tus.server, 'POST')
    assert not growth.all()


# -- what is counted -------------------------------------------------------------------------------

def test_requests_by_method(tus):
    growth = Growth(tus.server)
    url = tus.new(5)
    tus.append(url, 0, b'hello')
    tus.offset(url)
    tus.get(url)
    tus.get(url)
    tus.delete(url)
    tus.options()
    tus.request('PUT', url)
    tus.request('POST', url, [('X-HTTP-Method-Override', 'HEAD'), ('Tus-Resumable', '1.0.0')])
    grown = growth.all()
    assert {method: grown.get(requests_of(method), 0) for method in METHODS} == {
        'GET': 2, 'HEAD': 2, 'POST': 1, 'PATCH': 1, 'DELETE': 1, 'OPTIONS': 1, 'other': 1}


def test_the_life_of_an_upload(tus):
    growth = Growth(tus.server)
    url = tus.new(10, b'hello')
    assert growth.of('tus_uploads_created_total') == 1
    assert growth.of('tus_uploads_finished_total') == 0
    tus.append(url, 5, b'world')
    tus.offset(url)
    assert growth.of('tus_uploads_finished_total') == 1
    tus.delete(url)
    tus.upload(b'hi')
    tus.new(0)
    grown = growth.all()
    assert {what: grown.get(f'tus_uploads_{what}_total', 0) for what in UPLOADS} == {
        'created': 3, 'finished': 3, 'terminated': 1, 'expired': 0, 'interrupted': 0}
    assert grown['tus_bytes_received_total'] == 12


def test_interrupted_and_active(tus):
    growth = Growth(tus.server)
    url = tus.new(10)
    with tus.hold(url, 0, 10, b'hel'):
        wait_active(tus.server, 1)
        assert growth.of('tus_bytes_received_total') == 3
    growth.wait('tus_uploads_interrupted_total', 1)
    wait_active(tus.server, 0)
    assert growth.of('tus_uploads_finished_total') == 0


def test_expired(httpd):
    server = httpd()
    store = server.make_store()
    server.start(METRICS + endpoint('Location /files', store, 'TusExpire 1s'))
    tus = Tus(server, store=store)
    growth = Growth(server)
    url = tus.new(10, b'hello')
    tus.upload(b'hello')
    growth.wait('tus_uploads_expired_total', 1)
    server.wait_log(rf'\[tus:info\] .*\] UploadExpired id={upload_id(url)} offset=5\n')
    assert growth.of('tus_uploads_terminated_total') == 0


def test_errors_by_code_and_status(tus):
    growth = Growth(tus.server)
    url = tus.new(10)
    for _ in range(3):
        assert_error(tus.patch(url, 1, b'x'), 409, 'ERR_MISMATCHED_OFFSET')
    assert_error(tus.create(1001), 413, 'ERR_MAX_SIZE_EXCEEDED')
    tus.head('/files/' + '0' * 32)
    grown = growth.all()
    assert {name: value for name, value in grown.items() if 'errors' in name} == {
        errors_of('ERR_MISMATCHED_OFFSET', 409): 3,
        errors_of('ERR_MAX_SIZE_EXCEEDED', 413): 1,
        errors_of('ERR_UPLOAD_NOT_FOUND', 404): 1}


def test_statuses_of_other_modules(httpd):
    """They are told apart as long as there is room, and then still counted."""
    server = httpd()
    store = server.make_store()
    server.start(load('tus_observer') + METRICS + endpoint('Location /files', store))
    tus = Tus(server, store=store)

    def reject(status):
        wish = metadata(refuse='pre_create', status=str(status))
        assert tus.create(1, headers=[('Upload-Metadata', wish)]).status == status

    for status in [0, 400, 422, 422]:
        reject(status) if status else tus.create(
            1, headers=[('Upload-Metadata', metadata(refuse='pre_create'))])
    samples = parse(text(server))
    assert samples[errors_of('ERR_UPLOAD_REJECTED', 400)] == 2
    assert samples[errors_of('ERR_UPLOAD_REJECTED', 422)] == 2

    for status in range(500, 570):
        reject(status)
    page = text(server)
    check(page)
    samples = parse(page)
    told_apart = [name for name in samples if re.search(r'REJECTED",status="5', name)]
    other = samples[errors_of('ERR_UPLOAD_REJECTED', 'other')]
    assert len(told_apart) + other == 70
    assert 0 < other < 70


# -- hooks -----------------------------------------------------------------------------------------

def hooked(httpd, hooks, *lines, events=' '.join(HOOKS)):
    server = httpd()
    store = server.make_store()
    server.start(METRICS + endpoint('Location /files', store, f'TusHook {hooks.url} {events}',
                                    *lines))
    return Tus(server, store=store)


def buckets(samples, hook):
    """[(upper bound, count)] of a hook's durations, as they stand."""
    found = [(re.search(r'le="(.*)"', name)[1], value) for name, value in samples.items()
             if name.startswith(f'tus_hook_duration_seconds_bucket{{hook="{hook}"')]
    return [(float(bound), value) for bound, value in found]


def test_hooks_that_were_called(hook_server, httpd):
    hooks = hook_server()
    tus = hooked(httpd, hooks)
    url = tus.new(10, b'hello')
    tus.append(url, 5, b'world')
    tus.delete(url)
    wait_until(lambda: parse(text(tus.server))['tus_hook_spool_events'] == 0, 'all to be told')
    page = text(tus.server)
    check(page)
    samples = parse(page)
    for hook in HOOKS:
        called = samples[hook_of('tus_hook_invocations_total', hook)]
        assert called == len(hooks.of(hook)), hook
        assert called == 1 or hook == 'post-receive'
        assert called == samples[hook_of('tus_hook_duration_seconds_count', hook)]
        for what in ('errors', 'retries', 'given_up'):
            assert samples[hook_of(f'tus_hook_{what}_total', hook)] == 0
    assert samples['tus_hook_spool_age_seconds'] == 0


def test_how_long_hooks_took(hook_server, httpd):
    hooks = hook_server([{'times': 1, 'delay': 0.3}])
    tus = hooked(httpd, hooks, events='pre-create')
    for _ in range(3):
        tus.new(10)
    page = text(tus.server)
    check(page)
    samples = parse(page)
    found = buckets(samples, 'pre-create')
    assert [bound for bound, _ in found] == sorted(bound for bound, _ in found)
    assert [count for _, count in found] == sorted(count for _, count in found)
    assert found[-1] == (float('inf'), 3)
    assert dict(found)[0.25] <= 2, 'one took longer'
    assert samples[hook_of('tus_hook_duration_seconds_sum', 'pre-create')] >= 0.3
    assert not dict(buckets(samples, 'post-finish'))[float('inf')]


def test_hooks_that_failed(hook_server, httpd):
    hooks = hook_server([{'times': 2, 'status': 500}])
    tus = hooked(httpd, hooks, 'TusHookRetry 3 10ms', events='pre-create')
    tus.new(10)
    samples = parse(text(tus.server))
    assert [samples[hook_of(f'tus_hook_{what}_total', 'pre-create')]
            for what in ('invocations', 'errors', 'retries', 'given_up')] == [3, 2, 2, 0]
    hooks.script = [{'status': 500}]
    tus.server.expect_log('hook pre-create .* failed')
    assert_error(tus.create(10), 502, 'ERR_HOOK_FAILED')
    samples = parse(text(tus.server))
    assert [samples[hook_of(f'tus_hook_{what}_total', 'pre-create')]
            for what in ('invocations', 'errors', 'retries')] == [6, 5, 4]
    assert samples[errors_of('ERR_HOOK_FAILED', 502)] == 1


def test_events_that_wait(hook_server, httpd):
    hooks = hook_server([{'status': 503}])
    tus = hooked(httpd, hooks, 'TusHookRetry 3 10ms', events='post-create post-finish')
    server = tus.server
    for _ in range(5):
        tus.upload(b'hello')
    wait_until(lambda: parse(text(server))['tus_hook_spool_age_seconds'] > 0, 'them to get older')
    samples = parse(text(server))
    assert samples['tus_hook_spool_events'] == 10
    name = hook_of('tus_hook_retries_total', 'post-create')
    wait_until(lambda: parse(text(server))[name] >= 3, 'it to be tried again')
    assert parse(text(server))[hook_of('tus_hook_invocations_total', 'post-finish')] == 0
    check(text(server))
    server.expect_log('not told, to be tried again')
    hooks.script = []
    wait_until(lambda: parse(text(server))['tus_hook_spool_events'] == 0, 'all to be told', 30)
    samples = parse(text(server))
    assert samples['tus_hook_spool_age_seconds'] == 0
    for hook in ('post-create', 'post-finish'):
        told = (samples[hook_of('tus_hook_invocations_total', hook)]
                - samples[hook_of('tus_hook_errors_total', hook)])
        assert told == 5, hook


def test_events_given_up(hook_server, httpd):
    hooks = hook_server([{'status': 400}])
    tus = hooked(httpd, hooks, 'TusHookRetry 3 10ms', 'TusHookMaxAge 1s', events='post-finish')
    tus.upload(b'hello')
    name = hook_of('tus_hook_given_up_total', 'post-finish')
    wait_until(lambda: parse(text(tus.server))[name] == 1, 'it to be given up')
    tus.server.expect_log('was never told and is moved aside')
    wait_until(lambda: parse(text(tus.server))['tus_hook_spool_events'] == 0,
               'it to lie aside, where it does not wait')


# -- all processes ---------------------------------------------------------------------------------

def test_children_count_together(httpd):
    server = httpd(mpm='prefork')
    store = server.make_store()
    server.start('LogFormat "pid %P" pid\nCustomLog "logs.pid" pid\n'.replace(
        'logs.pid', str(server.root / 'pid.log')) + METRICS + endpoint('Location /files', store))
    tus = Tus(server, store=store)
    held = [tus.hold(tus.new(10), 0, 10, b'hello') for _ in range(5)]    # a process each
    wait_active(server, 5)
    for holder in held:
        assert holder.finish(b'world').status == 204
        holder.conn.close()
    pids = wait_until(lambda: set((server.root / 'pid.log').read_text().split('\n')) - {''},
                      'the log')
    assert len(pids) > 1, pids
    samples = parse(text(server))
    assert samples['tus_uploads_created_total'] == samples['tus_uploads_finished_total'] == 5
    assert samples['tus_bytes_received_total'] == 50
    assert samples[requests_of('PATCH')] == 5
    wait_active(server, 0)


@pytest.mark.parametrize('how', ['graceful', 'restart'])
def test_generations_count_together(httpd, how):
    server = httpd()
    store = server.make_store()
    server.start(METRICS + endpoint('Location /files', store))
    tus = Tus(server, store=store)
    url = tus.new(10, b'hello')
    before = parse(text(server))
    getattr(server, how)()
    assert parse(text(server)) == before
    tus.append(url, 5, b'world')
    samples = parse(text(server))
    assert samples['tus_bytes_received_total'] == 10
    assert samples['tus_uploads_finished_total'] == 1


def test_the_old_generation_still_counts(httpd):
    server = httpd()
    store = server.make_store()
    server.start(METRICS + endpoint('Location /files', store))
    tus = Tus(server, store=store)
    url = tus.new(10)
    with tus.hold(url, 0, 10, b'hello') as old:
        server.graceful()
        wait_active(server, 1)
        answer = old.finish(b'world')
    if answer.status == 204:
        assert parse(text(server))['tus_uploads_finished_total'] == 1
    else:
        assert parse(text(server))['tus_uploads_interrupted_total'] == 1


# -- who may see it --------------------------------------------------------------------------------

def test_only_where_the_administrator_says_so(httpd):
    server = httpd()
    for name in ('shared', 'open', 'cheeky'):
        (server.htdocs / name).mkdir()
        (server.htdocs / name / '.htaccess').write_text('SetHandler tus-metrics\n')
    (server.htdocs / 'cheeky' / '.htaccess').write_text(
        'TusStatus On\nSetHandler tus-metrics\n')
    server.start('<Location /off>\n    SetHandler tus-metrics\n</Location>\n'
                 '<Location /again>\n    SetHandler tus-metrics\n    TusStatus Off\n</Location>\n'
                 f'<Directory "{server.htdocs}">\n    AllowOverride All\n</Directory>\n'
                 f'<Directory "{server.htdocs}/open">\n    TusStatus On\n</Directory>\n')
    for url in ('/off', '/again', '/shared/', '/shared/x'):
        for method in ('GET', 'POST'):
            assert get(server, method, url).status == 404, url
    assert get(server, url='/open/x').status == 200
    server.expect_log('TusStatus')
    assert get(server, url='/cheeky/').status == 500


def test_what_has_another_handler_is_not_ours(tus):
    (tus.server.htdocs / 'page.txt').write_text('hello')
    answer = get(tus.server, url='/page.txt')
    assert (answer.status, answer.body) == (200, b'hello')
