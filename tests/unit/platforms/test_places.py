from tunesmith.core.rank_place import rank_place
from tunesmith.platforms.places import Seat, by_node, variables


def seat(node: str, devices: str | None = None) -> Seat:
    return Seat(node=node, address=f"10.0.0.{node}", devices=devices, port=4000 + int(node))


def test_ranks_of_one_node_follow_each_other() -> None:
    assert by_node(["b", "a", "b", "c", "a"]) == [0, 2, 1, 4, 3]


def test_a_rank_reads_its_place_from_its_variables() -> None:
    seats = [seat("1"), seat("1"), seat("2")]
    places = [rank_place(one) for one in variables(seats, cores=3)]
    assert all(place is not None for place in places)
    found = [
        (place.rank, place.size, place.local_rank, place.local_size, place.meeting, place.cores)
        for place in places
        if place is not None
    ]
    assert found == [
        (0, 3, 0, 2, "tcp://10.0.0.1:4001", 3),
        (1, 3, 1, 2, "tcp://10.0.0.1:4001", 3),
        (2, 3, 0, 1, "tcp://10.0.0.1:4001", 3),
    ]


def test_ranks_of_a_node_see_all_its_devices_in_their_order() -> None:
    seats = [seat("1", "3"), seat("1", "0"), seat("2", "5")]
    devices = [one["CUDA_VISIBLE_DEVICES"] for one in variables(seats, cores=1)]
    assert devices == ["3,0", "3,0", "5"]
    assert "CUDA_VISIBLE_DEVICES" not in variables([seat("1")], cores=1)[0]
