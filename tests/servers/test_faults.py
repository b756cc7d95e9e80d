import http.client
import math
import threading
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from urllib.parse import urlsplit

import pytest

from tests.servers.faults import FaultProxy


class Echo(BaseHTTPRequestHandler):
    """Answers with the request's own body, and counts."""

    protocol_version = "HTTP/1.1"
    disable_nagle_algorithm = True

    def log_message(self, *_):
        pass

    def _echo(self):
        body = self.rfile.read(int(self.headers.get("Content-Length", 0)))
        self.server.hosts.append(self.headers["Host"])
        self.send_response(200)
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        if self.command != "HEAD":
            self.wfile.write(body)

    do_GET = do_PUT = do_HEAD = _echo  # noqa: N815 - http.server's own names


@pytest.fixture
def echo():
    with ThreadingHTTPServer(("127.0.0.1", 0), Echo) as server:
        server.hosts = []
        thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.05}, daemon=True)
        thread.start()
        yield server
        server.shutdown()


@pytest.fixture
def proxy(echo):
    with FaultProxy(f"http://127.0.0.1:{echo.server_address[1]}") as proxy:
        yield proxy


def connection(proxy):
    return http.client.HTTPConnection(urlsplit(proxy.endpoint).netloc, timeout=10)


def ask(proxy, body=b"0123456789", method="PUT", path="/a", on=None, **headers):
    here = on or connection(proxy)
    here.request(method, path, body, headers=headers)
    answer = here.getresponse()
    return answer.status, answer.read()


def test_all_goes_through_and_is_counted_on_one_connection(proxy, echo):
    one = connection(proxy)
    assert ask(proxy, on=one, Host="bucket.example") == (200, b"0123456789")
    assert ask(proxy, on=one, method="HEAD", body=None, path="/b?c=d") == (200, b"")
    assert ask(proxy, on=one, Expect="100-continue") == (200, b"0123456789")
    assert echo.hosts[0] == "bucket.example"
    assert (proxy.count(), proxy.count("HEAD"), proxy.count(path=r"c=d")) == (3, 1, 1)
    assert (proxy.bytes_sent(), proxy.bytes_got("PUT")) == (20, 20)


def test_a_body_in_chunks_arrives_whole(proxy):
    assert ask(proxy, body=iter([b"abc", b"defg"])) == (200, b"abcdefg")


@pytest.mark.parametrize(("kind", "forwarded"), [("reset", 0), ("lost", 1)])
def test_a_closed_connection_reached_the_server_only_where_the_answer_was_lost(proxy, echo, kind, forwarded):
    proxy.plan(kind)
    with pytest.raises((http.client.HTTPException, ConnectionError)):
        ask(proxy)
    assert len(echo.hosts) == forwarded
    assert ask(proxy) == (200, b"0123456789")


@pytest.mark.parametrize("status", [500, 503])
def test_an_error_is_answered_in_the_place_of_the_server(proxy, echo, status):
    proxy.plan(str(status))
    one = connection(proxy)
    assert ask(proxy, on=one)[0] == status
    assert echo.hosts == []
    assert ask(proxy, on=one)[0] == 200


def test_half_of_a_cut_answer_arrives(proxy):
    proxy.plan("cut")
    with pytest.raises(http.client.IncompleteRead) as told:
        ask(proxy)
    assert told.value.partial == b"01234"


def test_a_slow_answer_comes_after_the_client_gave_up(proxy):
    proxy.plan("slow", seconds=1.0)
    one = http.client.HTTPConnection(urlsplit(proxy.endpoint).netloc, timeout=0.1)
    with pytest.raises(TimeoutError):
        ask(proxy, on=one)


def test_a_plan_strikes_only_what_it_names_and_as_often_as_it_says(proxy):
    fault = proxy.plan("500", method="PUT", path="^/a", nth=2, times=2)
    asked = [("PUT", "/a"), ("GET", "/a"), ("PUT", "/b"), ("PUT", "/a1"), ("PUT", "/a"), ("PUT", "/a")]
    assert [ask(proxy, method=method, path=path)[0] for method, path in asked] == [200, 200, 200, 500, 500, 200]
    assert (fault.matched, fault.happened) == (4, 2)
    proxy.plan("503", times=math.inf)
    assert {ask(proxy)[0] for _ in range(5)} == {503}
    proxy.clear()
    assert (ask(proxy)[0], proxy.count()) == (200, 1)
